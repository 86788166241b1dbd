"""SIGKILL anywhere loses nothing that was acknowledged: ten kills, one in each phase; and the checks that say so can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import kill, kill_check
from benchmarks.kill_app import PHASES, REAL_ROUND
from benchmarks.kill_ledger import Word, allowed_words, settled
from feedback_store import RoundFigures
from services.app import AppServices
from tests.services.conftest import app, open_app
from tests.services.harness import ask

__all__ = ["app", "open_app"]


@pytest.mark.slow
def test_ten_kills_one_in_each_phase_lose_nothing(tmp_path: Path) -> None:
    figures = kill.run(len(PHASES), 3, tmp_path)
    assert figures["complaints"] == {} and figures["whole"] == len(PHASES)
    assert figures["by_phase"] == dict.fromkeys(figures["by_phase"], 1) and set(figures["by_phase"]) == set(PHASES)
    assert figures["acknowledged"] > len(PHASES)


@pytest.mark.slow
def test_a_killed_round_of_another_model_is_checked_on_its_own_folder(tmp_path: Path) -> None:
    """The pocket model stands in for the general one here: it gets questions of the general one's benchmark."""
    figures = kill.run(1, 3, tmp_path, (), real_model="pocket")
    assert figures["complaints"] == {} and figures["whole"] == 1 and figures["by_phase"] == {REAL_ROUND: 1}
    assert (tmp_path / "data-real-0").is_dir() and figures["acknowledged"] >= 3


def say(reply: str, do: str, vote: int, *traces: str) -> dict[str, object]:
    return {"do": do, "what": "say", "reply": reply, "vote": vote, "traces": list(traces)}


def test_a_word_begun_before_the_kill_may_be_there_or_not_an_acknowledged_one_must() -> None:
    up, down = say("r", "ack", 1, "win liked"), say("r", "try", -1, "lose no_hint")
    assert allowed_words([say("r", "try", 1, "win liked"), up]) == {"r": [Word(1, ("win liked",), 1)]}
    old, new = allowed_words([up, down])["r"]
    assert (old, new) == (Word(1, ("win liked",), 1), Word(-1, ("lose no_hint",), 2))
    assert allowed_words(settled([up, down], {"r": new})) == {"r": [new]}
    assert allowed_words([*settled([up, down], {"r": old}), {**down, "do": "ack"}]) == {"r": [new]}


@pytest.mark.slow
def test_the_check_sees_what_a_kill_could_have_lost(app: AppServices) -> None:
    reply = ask(app, "What is a violin?")
    app.feedback.like(reply.id)
    said = say(reply.id, "ack", 1, "win liked")
    assert kill_check.check(app, [said]) == []
    app.feedback.dislike(reply.id)
    assert any("acknowledged was" in c for c in kill_check.check(app, [said]))
    said = say(reply.id, "ack", -1, "lose no_hint")
    assert any("votes_cast=2" in c for c in kill_check.check(app, [said])), "a vote too many is in the log"
    assert any(
        "v7 was acknowledged" in c for c in kill_check.check(app, [{"do": "ack", "what": "version", "version": 7}])
    )
    app.feedback.like(reply.id)
    assert app.engine.store.claim_round(app.engine.base, 0)
    assert any("still runs" in c for c in kill_check.check(app, []))
    (app.engine.data_folder / "backups").mkdir()
    (app.engine.data_folder / "backups" / "x.tar.part").touch()
    assert any("left over" in c for c in kill_check.check(app, []))


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_the_check_sees_an_adapter_that_is_not_the_recorded_one(app: AppServices, damage: str) -> None:
    reply = ask(app, "What is a violin?")
    app.feedback.edit(reply.id, "a bird")
    with app.learning.between_rounds():
        app.learning.lineage.adopt(app.engine.shared_models.initial, RoundFigures())
    version = {"do": "ack", "what": "version", "version": 1}
    assert kill_check.check(app, [version]) == []
    weights = app.engine.adapter_folder(1) / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.unlink() if damage == "missing" else weights.write_bytes(content)
    assert any("does not load" in c for c in kill_check.check(app, [version]))
