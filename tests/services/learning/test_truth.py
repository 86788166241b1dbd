"""What the page is told about learning is what was done: undone and restored versions, refusals, waiting, judged replies."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feedback_store import ChangedAnswerRecord, GateRecord, RoundFigures
from services.accounts.permissions import NotAllowed
from services.accounts.users_file import LOCAL, User
from services.app import AppServices
from services.learning.self_play import SelfPlayService
from services.learning.waiting_queue import coarse, usual_seconds
from services.user_session import UserSessions
from services.views import EARLIER, Forgotten
from spear_core.errors import SpearError
from spear_core.models.adapters import WEIGHTS
from spear_core.training.probes import ProbeKind
from tests.faults.quick import open_quick, teach
from tests.services.harness import ask

OWL, HARP = "What is an owl?", "What is a harp?"
LOSING: dict[str, Any] = {  # a second round costs the first answer, and is kept all the same
    "replay_wins": 0,
    "learning_rate": 5e-3,
    "max_steps": 30,
    "repair_steps": 0,
    "gate_max_forgotten": 1.0,
    "gate_max_older_nll_rise": 1000.0,
}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[AppServices]:
    services = open_quick(tmp_path / "data")
    yield services
    services.close()


def learn(app: AppServices, question: str, answer: str) -> str:
    reply = teach(app, question, answer)
    assert app.learning.run_pending() == 1
    return reply


def test_an_undone_version_is_named_and_can_be_restored_with_its_corrections(app: AppServices) -> None:
    learn(app, OWL, "a bird")
    taught = ask(app, OWL).text
    app.learning.roll_back()
    status = app.learning.status()
    assert (status.phase, status.undone, status.adapter_version) == ("undone", 1, 0)
    assert status.headline == "Undone: v1 is no longer used."
    [shown] = app.learning.learned()
    assert shown.status == "undone"
    assert app.learning.restore(1) == 1
    assert ask(app, OWL).text == taught
    assert app.learning.status().undone == 0
    assert [view.status for view in app.learning.learned()] == ["learned"]


def test_restoring_takes_back_what_was_learned_beside_it(app: AppServices) -> None:
    learn(app, OWL, "a bird")
    app.learning.roll_back()
    learn(app, HARP, "a tool")
    app.learning.restore(1)
    assert {view.question: view.status for view in app.learning.learned()} == {OWL: "learned", HARP: "undone"}
    assert {a.version: a.status for a in app.learning.adapters()} == {1: "live", 2: "rolled_back"}


def test_what_was_not_undone_or_is_deleted_cannot_be_restored(app: AppServices) -> None:
    reply = learn(app, OWL, "a bird")
    with pytest.raises(SpearError, match="it was not undone"):
        app.learning.restore(1)
    assert app.learning.forget([reply]) == Forgotten((1,), 0, 0)
    assert app.learning.status().undone == 0
    with pytest.raises(SpearError, match="it was deleted"):
        app.learning.restore(1)


def test_forgetting_what_no_version_had_learned_changes_no_version(app: AppServices) -> None:
    learn(app, OWL, "a bird")
    waiting = teach(app, HARP, "a tool")
    assert app.learning.forget([waiting]) == Forgotten((), 1, 0)


def test_an_earlier_correction_that_a_round_loses_is_named_and_erased_with_its_chat(tmp_path: Path) -> None:
    app = open_quick(tmp_path / "data", **LOSING)
    learn(app, OWL, "a bird")
    later = learn(app, HARP, "a tool")
    status = app.learning.status()
    [lost] = [c for c in status.changed if c.kind == EARLIER]
    assert (lost.question, lost.before, lost.after) == (OWL, "a bird", ask(app, OWL).text)
    assert "1 of 1 earlier correction must be practised again; 16 other answers checked" in status.detail
    assert ProbeKind.EARLIER == EARLIER
    app.learning.roll_back()
    assert app.learning.status().changed == (), "what the undone version changed is not so any more"
    app.learning.restore(2)
    assert lost in app.learning.status().changed
    guest = UserSessions(app).of(User("u-guest", "guest"))
    assert not any(c.kind == EARLIER for c in guest.learning.status().changed)
    app.engine.store.delete_conversation(app.engine.store.message(later).conversation_id)
    assert not any(c.kind == EARLIER for c in app.learning.status().changed)
    app.close()


def test_what_a_round_has_cost_is_asked_again_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_quick(tmp_path / "data", **LOSING)
    learn(app, OWL, "a bird")
    learn(app, HARP, "a tool")
    engine = app.engine
    in_turn = ((seed, engine.store.replay_wins(engine.base, 1, [], seed)[0]) for seed in range(100))
    engine.seed = next(seed for seed, first in in_turn if first.prompt[-1]["content"] == HARP)
    monkeypatch.setattr("services.learning.self_play.REASKED_AT_A_TIME", 1)
    assert SelfPlayService(engine).reask() == 1, "and not the newest one, which holds"
    app.close()


def test_the_proof_shows_the_reply_that_was_corrected_and_where(app: AppServices) -> None:
    conversation = app.chat.new_conversation()
    app.chat.set_sampling(conversation.id, app.chat.sampling(conversation.id))
    reply = ask(app, OWL, conversation.id)
    app.feedback.edit(reply.id, "a bird")
    app.learning.run_pending()
    proof = app.learning.status().proof
    assert proof is not None and proof.was_seen
    assert (proof.before, proof.conversation_id) == (reply.text, conversation.id)


def test_what_nobody_saw_is_not_called_the_reply_that_was_corrected(app: AppServices) -> None:
    learn(app, OWL, "a bird")
    app.engine.shared_models.publish(None, 1)  # what serves has lost it
    assert app.self_play.reask() == 1
    app.learning.run_pending()
    proof = app.learning.status().proof
    assert proof is not None and not proof.was_seen


@pytest.mark.slow
def test_what_is_trained_again_after_a_forgetting_took_as_long_as_that(app: AppServices, tmp_path: Path) -> None:
    reply = learn(app, OWL, "a bird")
    learn(app, HARP, "a tool")
    with sqlite3.connect(next(tmp_path.rglob("spear.sqlite3"))) as database:
        database.execute("UPDATE traces SET created_at_utc = '2026-01-01T00:00:00+00:00'")
    database.close()
    app.learning.forget([reply])
    assert app.learning.run_pending() == 1
    seconds = app.learning.status().seconds
    assert seconds is not None and seconds < 3600


def test_a_rejected_reply_without_a_right_answer_is_never_called_learned(app: AppServices) -> None:
    rejected = ask(app, HARP)
    app.feedback.dislike(rejected.id)
    learn(app, OWL, "a bird")
    assert {view.question: view.status for view in app.learning.learned()} == {HARP: "no answer", OWL: "learned"}
    assert {view.question: view.version for view in app.learning.learned()} == {HARP: 0, OWL: 1}


def test_only_judged_replies_count_as_right_at_the_first_try(app: AppServices) -> None:
    replies = [ask(app, OWL) for _ in range(4)]
    app.feedback.like(replies[0].id)
    app.feedback.dislike(replies[1].id)
    view = app.progress.view()
    assert (view.first_try, view.replies) == ((True, False), 4)


def test_a_refused_correction_says_on_its_own_message_what_to_do_next(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = teach(app, OWL, "a bird")
    waiting = teach(app, HARP, "a tool")
    store = app.engine.store
    mine = [t.id for t in store.traces(subject_id=refused)]
    claimed = store.claim_round(app.engine.base, 0, only=mine)
    assert claimed is not None
    store.finish_round(claimed[0].id, "discarded", verdict="Not kept: the right answer did not become more likely.")
    by_id = {m.id: m for r in (refused, waiting) for m in app.chat.messages(store.message(r).conversation_id)}
    assert by_id[refused].note == (
        "This correction was not learned: the right answer did not become more likely. Write the right answer in other "
        "words, or correct another question."
    )
    assert by_id[refused].can_be_written
    assert by_id[waiting].note == ""
    app.feedback.edit(refused, "It is a bird.")
    assert not any(m.note for m in app.chat.messages(store.message(refused).conversation_id))


def test_what_waits_is_named_and_the_time_comes_from_earlier_trainings(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach(app, OWL, "a bird")
    status = app.learning.status()
    assert [(one.question, one.right, one.is_training) for one in status.queue] == [(OWL, "a bird", False)]
    assert status.seconds_left and status.is_first_estimate, "nothing was trained here yet"
    app.learning.run_pending()
    assert app.learning.status().queue == ()
    last = app.engine.store.last_round(app.engine.base)
    assert last and last.figures.learning_seconds and last.figures.round_seconds
    assert usual_seconds([last]) == last.figures.learning_seconds >= last.figures.round_seconds
    monkeypatch.setattr("services.learning.waiting_queue.usual_seconds", lambda rounds: 42.0)
    app.learning._queue._usual = (-1, None)
    teach(app, HARP, "a tool")
    assert app.learning.status().seconds_left == 45.0 and not app.learning.status().is_first_estimate
    seen = []
    on_step = app.learning._on_step
    monkeypatch.setattr(app.learning, "_on_step", lambda step: (on_step(step), seen.append(app.learning.status())))
    app.learning.run_pending()
    assert seen and all(one.progress is not None and one.progress > 0 for one in seen)
    assert [one.is_training for one in seen[0].queue] == [True]


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, 0.0), (3.2, 5.0), (41.0, 45.0), (61.0, 75.0)])
def test_times_are_shown_in_steps_that_a_person_tells_apart(seconds: float, shown: float) -> None:
    assert coarse(seconds) == shown


def test_a_guest_teaches_and_the_owner_sees_who_and_where_but_no_word(app: AppServices) -> None:
    sessions = UserSessions(app, {"g1": "gil"}.get)  # type: ignore[arg-type]
    gil = User("gil", "guest", "g1")
    guest, owner = sessions.of(gil), sessions.of(LOCAL)
    conversation = guest.chat.new_conversation()
    reply = list(guest.chat.reply(conversation.id, OWL))[-1]
    guest.feedback.edit(reply.id, "a bird")
    assert [one.question for one in guest.learning.status().queue] == [OWL]
    assert [(one.question, one.right) for one in owner.learning.status().queue] == [("", "")]
    assert "your" not in owner.learning.status().headline.lower()
    app.learning.run_pending()
    [theirs] = owner.learning.learned_by_others()
    assert (theirs.user, theirs.version, theirs.status, theirs.question) == ("gil", 1, "learned", "")
    assert not guest.learning.sees_others and guest.learning.status().undone == 0
    with pytest.raises(NotAllowed):
        guest.learning.restore(1)
    assert owner.learning.forget([theirs.message_id]) == Forgotten((1,), 0, 0)


def test_three_attempts_at_one_question_are_one_question_that_was_answered_wrongly(app: AppServices) -> None:
    reply = ask(app, OWL)
    app.feedback.dislike(reply.id)
    for _ in range(2):
        revision = list(app.chat.revise(reply.id, "wrong"))[-1]
        app.feedback.still_wrong(revision.id)
    status = app.learning.status()
    assert status.phase == "waiting" and status.detail.startswith("1 question was answered wrongly. ")
    app.feedback.dislike(ask(app, HARP).id)
    assert app.learning.status().detail.startswith("2 questions were answered wrongly. ")


def refuse(app: AppServices, question: str) -> None:
    """Teach something that the gate refuses, with an answer to another question that would have changed."""
    teach(app, question, "a tool")
    claimed = app.engine.store.claim_round(app.engine.base, app.learning.lineage.version)
    assert claimed is not None
    changed = (ChangedAnswerRecord("general", "What is iron?", "metal", "a tool"),)
    figures = RoundFigures(gate=GateRecord(checked=16, changed=changed))
    app.engine.store.finish_round(claimed[0].id, "discarded", verdict="Not kept: it was broken.", figures=figures)


def test_undo_after_a_refusal_is_called_undone_and_a_refusal_after_undo_not_kept(app: AppServices) -> None:
    learn(app, OWL, "a bird")
    refuse(app, HARP)
    assert app.learning.status().phase == "not_kept"
    app.learning.roll_back()
    assert app.learning.status().headline == "Undone: v1 is no longer used."
    refuse(app, HARP)
    assert app.learning.status().phase == "not_kept"


def test_answers_that_a_refused_version_would_have_changed_are_never_shown_as_those_given_now(app: AppServices) -> None:
    learn(app, OWL, "a bird")
    refuse(app, HARP)
    assert len(app.learning.status().changed) == 1
    app.learning.pause()
    assert (app.learning.status().changed, app.learning.status().checked) == ((), 0)
    app.learning.resume()
    teach(app, "What is iron?", "metal")
    assert (app.learning.status().phase, app.learning.status().changed) == ("queued", ())


def test_undo_offers_to_restore_though_a_later_version_was_forgotten(app: AppServices) -> None:
    learn(app, OWL, "a bird")
    app.learning.forget([learn(app, HARP, "strings")])
    app.learning.roll_back()
    status = app.learning.status()
    assert (status.phase, status.undone, status.adapter_version) == ("undone", 1, 0)
    assert app.learning.restore(1) == 1 and app.learning.status().undone == 0


@pytest.mark.slow
def test_a_damaged_version_that_undo_passes_over_is_named_until_another_one_serves(app: AppServices) -> None:
    with app.learning.between_rounds():
        for _ in range(3):
            app.learning.lineage.adopt(app.engine.shared_models.initial, RoundFigures())
    (app.engine.adapter_folder(2) / WEIGHTS).write_bytes(b"")
    assert app.learning.roll_back() == 1
    assert "v00002" in app.learning.status().detail and "Serving v1 instead" in app.learning.status().detail
    app.learning.roll_back()
    status = app.learning.status()
    assert (status.phase, status.adapter_version) == ("undone", 0) and "Serving v1" not in status.detail


@pytest.mark.slow
def test_a_round_that_is_trained_again_counts_once_in_the_time_that_is_left(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = learn(app, OWL, "a bird")
    learn(app, HARP, "strings")
    app.learning.forget([reply])
    monkeypatch.setattr("services.learning.waiting_queue.usual_seconds", lambda rounds: 100.0)
    app.learning._queue._usual = (-1, None)
    left = [app.learning.status().seconds_left]
    on_step = app.learning._on_step
    monkeypatch.setattr(
        app.learning, "_on_step", lambda step: (on_step(step), left.append(app.learning.status().seconds_left))
    )
    assert app.learning.run_pending() == 1
    assert len(left) > 1 and all(seconds is not None and seconds <= 105 for seconds in left)


@pytest.mark.slow
def test_a_clock_that_is_set_back_during_a_round_makes_no_negative_time(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feedback_store.traces.now_utc", lambda: "2999-01-01T00:00:00.000000+00:00")
    learn(app, OWL, "a bird")
    seconds = app.learning.status().seconds
    assert seconds is not None and seconds >= 0


def test_the_newest_versions_are_told_as_among_all_of_them(app: AppServices) -> None:
    with app.learning.between_rounds():
        app.learning.lineage.adopt(app.engine.shared_models.initial, RoundFigures())
    learn(app, OWL, "a bird")
    app.learning.roll_back()
    every = app.learning.adapters()
    assert len(every) == 2
    assert [app.learning.adapters(count) for count in (1, 2, 3)] == [every[:1], every, every]
