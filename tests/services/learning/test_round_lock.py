"""The adapter that serves changes only under the round lock, in the thread that holds it."""

from __future__ import annotations

import threading

import pytest

from feedback_store import RoundFigures
from services.app import AppServices
from services.learning.round_lock import RoundLock
from tests.services.conftest import app, open_app

__all__ = ["app", "open_app"]


def test_only_the_thread_that_holds_the_lock_may_go_on() -> None:
    lock, refused = RoundLock(), []

    def another() -> None:
        for attempt in (lock.require, lock.release):
            try:
                attempt()
            except RuntimeError as e:
                refused.append(str(e))
        refused.append(str(lock.acquire(timeout_seconds=0)))

    with pytest.raises(RuntimeError, match="round lock"):
        lock.require()
    with lock:
        lock.require()
        thread = threading.Thread(target=another)
        thread.start()
        thread.join()
    assert len(refused) == 3 and refused[-1] == "False"
    with pytest.raises(RuntimeError, match="round lock"):
        lock.require()
    assert lock.acquire(timeout_seconds=0)


def test_no_adapter_changes_outside_the_round_lock(app: AppServices) -> None:
    lineage, state = app.learning.lineage, app.engine.shared_models.initial
    changes = [
        lambda: lineage.adopt(state, RoundFigures()),
        lineage.roll_back,
        lambda: lineage.restore(1),
        lineage.serve_active,
        lineage.prune,
        lineage.delete_unknown_files,
        lambda: lineage.delete_versions([]),
        lambda: app.learning.learner(0, ()),
    ]
    for change in changes:
        with pytest.raises(RuntimeError, match="round lock"):
            change()
    assert lineage.version == 0 and app.engine.store.adapters(app.engine.base) == []
    with app.learning.between_rounds():
        assert lineage.adopt(state, RoundFigures()) == 1
