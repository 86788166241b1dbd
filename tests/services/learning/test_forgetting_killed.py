"""A kill in the middle of a forgetting or of what it trains again: nothing forgotten is left, and nothing else is lost."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

from feedback_store import RoundFigures
from tests.faults.quick import open_quick, teach
from tests.services.harness import ask

OWL, HARP = "What is an owl?", "What is a harp?"


class Killed(BaseException):
    """In place of a signal."""


@pytest.mark.slow
def test_a_forgetting_killed_before_the_files_are_deleted_leaves_nothing_to_restore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*arguments: object) -> NoReturn:
        raise Killed

    data = tmp_path / "data"
    app = open_quick(data)
    owl = teach(app, OWL, "a bird")
    app.learning.run_pending()
    app.learning.pin(1)
    app.sync.sync()
    with monkeypatch.context() as patch:
        patch.setattr(app.learning.lineage, "delete_versions", kill)
        with pytest.raises(Killed):
            app.learning.forget([owl])
    app.close()
    app = open_quick(data)
    assert app.learning.status().undone == 0
    assert [(a.version, a.status, a.pinned) for a in app.learning.adapters()] == [(1, "pruned", False)]
    assert list(data.glob("adapters/*/*")) == [] and list(data.rglob("*.safetensors")) == []
    app.close()


def test_files_of_a_version_that_was_pruned_just_before_a_kill_are_deleted_also_of_another_model(
    tmp_path: Path,
) -> None:
    app = open_quick(tmp_path / "data")
    with app.learning.between_rounds():
        for _ in range(2):
            app.learning.lineage.adopt(app.engine.shared_models.initial, RoundFigures())
    app.engine.store.mark_pruned(app.engine.base, 1)
    app.close()
    other = open_quick(tmp_path / "data", kind="llama3")
    assert [path.name for path in (tmp_path / "data").glob("adapters/*/*")] == ["v00002"]
    other.close()


@pytest.mark.slow
def test_what_is_trained_again_outlives_a_kill_though_its_conversation_was_deleted(tmp_path: Path) -> None:
    app = open_quick(tmp_path / "data")
    owl = teach(app, OWL, "a bird")
    app.learning.run_pending()
    harp = teach(app, HARP, "strings")
    app.learning.run_pending()
    store = app.engine.store
    app.chat.delete(store.message(harp).conversation_id)
    assert app.learning.forget([owl]).rounds == 1
    [item] = app.learning._forgetting.waiting()
    assert store.claim_round(app.engine.base, 0, only=item["traces"]) is not None
    app.close()  # killed in the middle of that round
    app = open_quick(tmp_path / "data")
    assert app.learning.run_pending() == 1
    assert ask(app, HARP).text == "strings", "deleting promised that what was learned stays"
    app.close()
