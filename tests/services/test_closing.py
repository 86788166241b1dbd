"""Closing the app in the middle of a round: it ends soon, serves nothing half-learned, and learns it at the next start."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from services.app import AppServices
from services.learning.scope import AdapterScope
from tests.services.conftest import OpenBench
from tests.services.harness import correct, wrong_task

WAIT = 60.0


def begin_round(app: AppServices) -> threading.Event:
    """Set in the middle of training, which then waits until the app is being closed."""
    training, priority = threading.Event(), app.engine.priority
    give_way = priority.give_way
    told = app.learning._on_step

    def on_step(progress: object) -> None:
        told(progress)  # type: ignore[arg-type]
        training.set()
        while not priority._is_closing:
            threading.Event().wait(0.01)
        give_way()

    app.learning._on_step = on_step  # type: ignore[method-assign]
    return training


@pytest.mark.slow
def test_a_round_under_way_is_given_up_and_trained_anew_after_the_restart(open_app: OpenBench) -> None:
    app = open_app(start_jobs=True)
    training = begin_round(app)
    task = wrong_task(app)
    correct(app, task)
    assert training.wait(WAIT)
    closing = threading.Thread(target=app.close)
    closing.start()
    closing.join(WAIT)
    assert not closing.is_alive()
    app = open_app()
    (round_,) = app.engine.store.rounds(app.engine.base)
    assert (round_.status, app.engine.shared_models.serving.version) == ("interrupted", 0)
    assert app.learning.status().pending_wins == 1
    assert app.learning.run_pending() == 1
    assert app.engine.shared_models.serving.version == 1
    assert task.verdict(list(app.chat.reply(app.chat.new_conversation(learn=False).id, task.question))[-1].text)


def test_closing_while_the_first_preparations_run_waits_for_them_and_says_nothing(
    open_app: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[object] = []
    reading, jobs_stopped = threading.Event(), threading.Event()
    covering = AdapterScope.covering

    def slow(self: AdapterScope, *about: Any) -> Any:
        reading.set()
        jobs_stopped.wait(WAIT)
        threading.Event().wait(0.5)  # by now the store is closed, unless closing waits for this thread
        return covering(self, *about)

    monkeypatch.setattr(AdapterScope, "covering", slow)
    monkeypatch.setattr(threading, "excepthook", errors.append)
    app = open_app(
        scope="near"
    )  # no jobs: one that waits for the preparations to end would keep the app from closing anyway
    app._starts_jobs = True
    app._begin()
    assert reading.wait(WAIT)
    stop_jobs = app._jobs.stop

    def stop() -> None:
        stop_jobs()
        jobs_stopped.set()

    monkeypatch.setattr(app._jobs, "stop", stop)
    app.close()
    assert errors == [] and not any(thread.name == "prepare" for thread in threading.enumerate())
