"""What meets learning from outside: a forgetting, another base model, other settings, a deletion, a program error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from feedback_store import Trace
from services.app import AppServices
from services.learning import self_play
from spear_core.errors import ConfigError, SpearError
from spear_core.training.trainer import Progress
from tests.faults.quick import open_quick, teach
from tests.services.harness import ask
from tests.tiny_models import tiny_folder

OWL, HARP = "What is an owl?", "What is a harp?"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[AppServices]:
    with_app = open_quick(tmp_path / "data")
    yield with_app
    with_app.close()


def test_what_is_wanted_between_rounds_comes_before_the_next_one(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning, order = app.learning, []
    kicked = threading.Event()
    learning.on_kick = kicked.set  # type: ignore[method-assign, assignment]

    def change() -> None:
        with learning.between_rounds():
            order.append("change")

    changing = threading.Thread(target=change)

    def round_under_way(*claimed: Any) -> None:
        order.append("round")
        changing.start()
        while not learning._between.is_wanted:
            pass

    monkeypatch.setattr(learning, "_claim", lambda: ("a round", [], None))  # corrections keep coming
    monkeypatch.setattr(learning, "_run", round_under_way)
    assert learning.run_pending() == 1
    changing.join(10)
    assert order == ["round", "change"]
    assert kicked.is_set(), "what was left is learned then"


def test_while_corrections_keep_coming_memory_and_old_versions_go_after_each_round(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning, order = app.learning, []
    waiting = iter([("a round", [], None)] * 2)
    monkeypatch.setattr(learning, "_claim", lambda: next(waiting, None))
    monkeypatch.setattr(learning, "_run", lambda *claimed: order.append("round"))
    monkeypatch.setattr(learning.lineage, "prune", lambda: order.append("prune"))
    monkeypatch.setattr("services.learning.rounds.give_back", lambda: order.append("give back"))
    assert learning.run_pending() == 2
    assert order == ["round", "prune", "give back"] * 2


def test_a_correction_that_is_claimed_but_not_yet_told_is_queued(app: AppServices) -> None:
    store = app.engine.store
    teach(app, OWL, "a bird")
    assert app.learning.status().phase == "queued"
    assert store.claim_round(app.engine.base, 0) is not None
    status = app.learning.status()
    assert (status.phase, status.pending_wins) == ("queued", 0)


def test_a_long_round_gives_memory_back_on_the_way(app: AppServices, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr("services.learning.rounds.give_back", lambda: given.append(step))
    for step in range(1, 81):
        app.learning._on_step(Progress(step, 80))
    assert given == [20, 40, 60, 80]


def test_an_error_that_nobody_expected_ends_the_round_and_what_comes_next_is_learned(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> NoReturn:
        raise KeyError("a mistake of the program")

    with monkeypatch.context() as patch:
        patch.setattr(app.learning, "_learn", broken)
        teach(app, OWL, "a bird")
        assert app.learning.run_pending() == 1
    assert app.learning.status().phase == "failed"
    assert app.engine.store.traces(status="claimed") == []
    teach(app, HARP, "strings")
    assert app.learning.run_pending() == 1
    assert ask(app, HARP).text == "strings"


@pytest.mark.slow
def test_a_conversation_deleted_as_a_round_looks_for_wishes_takes_no_other_correction_with_it(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = app.engine.store
    reply = ask(app, OWL)
    revision = list(app.chat.revise(reply.id, "no, a bird"))[-1]
    app.engine.store.update_message(revision.id, text="a bird", complete=True)
    app.feedback.better(revision.id)
    teach(app, HARP, "strings")
    real, deleting = store.traces, threading.Thread(target=app.chat.delete, args=[reply.conversation_id])

    def deleted_meanwhile(**wanted: Any) -> list[Trace]:
        found = real(**wanted)
        if wanted.get("status") == "claimed" and not deleting.ident:
            deleting.start()
            deleting.join(0.5)
        return found

    monkeypatch.setattr(store, "traces", deleted_meanwhile)
    app.learning.run_pending()
    deleting.join(10)
    app.learning.run_pending()
    assert ask(app, HARP).text == "strings"
    assert {t.status for t in real() if t.subject_id} == {"trained"}


@pytest.mark.slow
def test_what_remains_of_a_forgetting_waits_for_its_own_base_model(tmp_path: Path) -> None:
    app = open_quick(tmp_path / "data")
    owl = teach(app, OWL, "a bird")
    app.learning.run_pending()
    teach(app, HARP, "strings")
    app.learning.run_pending()
    app.learning.pause()
    assert app.learning.forget([owl]).rounds == 1
    assert "1 round will be trained again" in app.learning.status().detail
    app.close()
    other = open_quick(tmp_path / "data", kind="llama3")
    assert other.learning.status().detail == "Nothing is waiting."
    other.learning.resume()
    assert other.learning.run_pending() == 0
    other.close()
    app = open_quick(tmp_path / "data")
    assert app.learning.status().phase == "queued"
    assert app.learning.run_pending() == 1
    assert ask(app, HARP).text == "strings"
    app.close()


def test_a_forgetting_reaches_every_base_model_that_was_taught(tmp_path: Path) -> None:
    app = open_quick(tmp_path / "data")
    owl = teach(app, OWL, "a bird")
    app.learning.run_pending()
    adapter = app.engine.adapter_folder(1)
    app.close()
    other = open_quick(tmp_path / "data", kind="llama3")
    other.feedback.dislike(owl)
    assert other.learning.forget([owl]).rounds == 0
    other.close()
    assert not adapter.exists()
    app = open_quick(tmp_path / "data")
    assert app.learning.status().adapter_version == 0
    assert ask(app, OWL).text != "a bird"
    assert app.engine.store.traces() == []
    app.close()


@pytest.mark.slow
def test_a_learned_answer_longer_than_a_reply_is_not_taken_for_lost(tmp_path: Path) -> None:
    app = open_quick(tmp_path / "data", max_new_tokens=8)
    teach(app, OWL, "a bird that hunts at night and turns its head all the way round")
    assert app.learning.run_pending() == 1
    assert app.self_play.reask() == 0 and app.self_play.first_try_right == 1
    app.engine.shared_models.publish(None, 0)
    assert app.self_play.reask() == 1, "what is lost is noticed all the same"
    app.close()


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"lora_rank": 4}, {"lora_alpha": 32}, {"lora_layers": "upper_half"}])
def test_adapters_of_another_shape_stop_the_start_with_one_sentence_and_stay(
    tmp_path: Path, change: dict[str, object]
) -> None:
    app = open_quick(tmp_path / "data")
    teach(app, OWL, "a bird")
    app.learning.run_pending()
    app.close()
    with pytest.raises(ConfigError, match="have rank 8 and alpha 16 in all layers, the settings say") as refusal:
        open_quick(tmp_path / "data", **change)
    assert "\n" not in str(refusal.value)
    app = open_quick(tmp_path / "data")
    assert ask(app, OWL).text == "a bird"
    app.close()


def test_a_version_of_another_shape_is_not_restored_and_the_next_start_goes_on(tmp_path: Path) -> None:
    app = open_quick(tmp_path / "data")
    teach(app, OWL, "a bird")
    app.learning.run_pending()
    app.learning.roll_back()
    app.close()
    app = open_quick(tmp_path / "data", lora_rank=4)
    with pytest.raises(ConfigError, match="have rank 8"):
        app.learning.restore(1)
    assert app.learning.lineage.version == 0 and app.learning.status().undone == 1
    app.close()
    open_quick(tmp_path / "data", lora_rank=4).close()


@pytest.mark.slow
@pytest.mark.parametrize("act", ["undo", "restore"])
def test_undo_and_restore_change_nothing_where_a_round_makes_another_version_first(
    app: AppServices, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    for question, answer in ((OWL, "a bird"), (HARP, "strings")):
        teach(app, question, answer)
        app.learning.run_pending()
    if act == "restore":
        app.learning.roll_back()
    refused: list[SpearError] = []

    def change() -> None:
        try:
            app.learning.roll_back() if act == "undo" else app.learning.restore(2)
        except SpearError as e:
            refused.append(e)

    changing, on_step = threading.Thread(target=change), app.learning._on_step

    def step(progress: Progress) -> None:
        if progress.step == 1:
            changing.start()
            while not app.learning._between.is_wanted:
                pass
        on_step(progress)

    monkeypatch.setattr(app.learning, "_on_step", step)
    teach(app, "What is iron?", "metal")
    app.learning.run_pending()
    changing.join(10)
    assert [str(e) for e in refused] == [
        "v3 has come into use meanwhile, so nothing was changed. Look at it and try again."
    ]
    assert app.learning.status().adapter_version == 3


@pytest.mark.slow
def test_what_is_asked_again_while_the_model_changes_is_asked_of_the_model_that_learned_it(
    app: AppServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach(app, OWL, "a bird")
    app.learning.run_pending()
    app.engine.shared_models.publish(None, 0)  # what serves has lost it
    first, base = app.engine.loaded, app.engine.base
    tiny_folder("llama3", tmp_path / "llama3")
    asked: list[object] = []
    rows, answers = self_play.score_rows, self_play.answer_all

    def changed_meanwhile(*arguments: Any, **named: Any) -> Any:
        found = rows(*arguments, **named)
        assert app.models.switch(str(tmp_path / "llama3"))
        return found

    def answered(model: object, tokenizer: object, *arguments: Any, **named: Any) -> Any:
        asked.append(tokenizer)
        return answers(model, tokenizer, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(self_play, "score_rows", changed_meanwhile)
    monkeypatch.setattr(self_play, "answer_all", answered)
    assert app.self_play.reask() == 1
    assert asked == [first.tokenizer] and app.engine.base != base
    assert {t.base for t in app.engine.store.traces(status="pending")} == {base}
