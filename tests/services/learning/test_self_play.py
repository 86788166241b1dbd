"""The judge at work: what it is calibrated on, what it sees, what becomes of what it accepts. The real pocket model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from typing import Any, Self

import pytest

from feedback_store import Trace
from pocket.wordings import open_answer
from services.app import AppServices
from services.chat.conversation_tree import attempts
from services.learning import self_play as selfplay
from spear_core.models.prompts import revision_messages
from spear_core.training.judge import Case, Score, Thresholds
from tests.services.conftest import OpenBench
from tests.services.harness import WORLD, ask, correct, wrong_task

FACTS = WORLD.of("kind", half_known=True)
ANSWERS = WORLD.candidates["kind"]


def hinted(app: AppServices, number: int, hint: str, says: str) -> str:
    """A wrong reply, a hint and a revision, as the app stores them. Returns the revision's id."""
    store, fact = app.engine.store, FACTS[number]
    conversation = store.create_conversation()
    question = store.add_message(conversation.id, "user", f"What is {fact.phrase}?")
    wrong = next(a for a in ANSWERS if a not in (says, fact.truth))
    reply = store.add_message(conversation.id, "assistant", open_answer(fact, wrong), parent_id=question.id)
    app.feedback.complain(reply.id, reply.id, hint)
    return store.add_message(
        conversation.id, "assistant", open_answer(fact, says), kind="revision", parent_id=question.id, revises_id=reply.id, hint=hint
    ).id  # fmt: skip


def told(app: AppServices, count: int, *, right: bool = True, first: int = 0) -> None:
    """`count` answers said outright, repeated by the model, and called better (or still wrong)."""
    for number in range(first, first + count):
        truth = FACTS[number % len(FACTS)].truth
        revision = hinted(app, number % len(FACTS), f"no, {truth}", truth)
        (app.feedback.better if right else app.feedback.still_wrong)(revision)


def waiting(app: AppServices, skip: int = 0) -> tuple[str, str]:
    """A reply with an outright hint whose revision got no verdict; the person has moved on. (reply, revision)"""
    task = wrong_task(app, skip)
    reply = ask(app, task.question)
    revision = list(app.chat.revise(reply.id, f"no, {task.truth}"))[-1]
    assert task.verdict(revision.text)
    ask(app, "Thank you!", reply.conversation_id)
    return reply.id, revision.id


def pending(app: AppServices, subject: str) -> dict[str, Trace]:
    return {t.side: t for t in app.engine.store.traces(status="pending", subject_id=subject)}


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """The cases that the model is asked to score from now on."""
    seen: list[Case] = []
    real = selfplay.scores

    def spy(model: Any, encoder: Any, settings: Any, cases: Sequence[Case], *rest: Any) -> list[Score]:
        seen.extend(cases)
        return real(model, encoder, settings, cases, *rest)

    monkeypatch.setattr(selfplay, "scores", spy)
    return seen


# -- what it is calibrated on --------------------------------------------------------------------------------


def test_with_too_few_verdicts_the_config_decides(app: AppServices) -> None:
    told(app, 39)
    config = app.engine.config
    assert app.self_play.thresholds() == Thresholds(config.judge_tau, config.judge_min_p, config.judge_tau_full)


@pytest.mark.slow
def test_with_enough_verdicts_peoples_own_decide(open_app: OpenBench) -> None:
    app = open_app(judge_tau=1000.0)  # the config alone would accept nothing
    reply, _ = waiting(app, skip=2)
    told(app, 40, first=60)
    own = app.self_play.thresholds()
    assert own is not None
    assert own.min_p == 0.95, "said outright, all of them are certain: the strictest of equal settings"
    assert 0 < own.tau < own.tau_full < 1000
    assert app.self_play.judge_waiting() == 2
    assert pending(app, reply)["win"].source == "judged"


def test_verdicts_on_revisions_without_a_hint_or_of_another_base_do_not_count(app: AppServices) -> None:
    told(app, 39)
    app.feedback.better(hinted(app, 50, "", FACTS[50].truth))
    config = app.engine.config
    assert app.self_play.thresholds() == Thresholds(config.judge_tau, config.judge_min_p, config.judge_tau_full)
    last = hinted(app, 51, "no, it is another", FACTS[51].truth)
    app.feedback.better(last)
    assert len(app.self_play._verdicts()) == 40
    store = app.engine.store
    store.set_learn(store.message(last).conversation_id, False)
    assert len(app.self_play._verdicts()) == 39, "nothing is learned from a conversation that may not teach"
    app.engine.model = replace(app.engine.model, loaded=replace(app.engine.loaded, fingerprint="another"))
    assert selfplay.SelfPlayService(app.engine)._verdicts() == {}


@pytest.mark.slow
def test_verdicts_that_contradict_each_other_let_nothing_through_and_the_log_says_so_once(
    open_app: OpenBench, caplog: pytest.LogCaptureFixture
) -> None:
    app = open_app(judge_tau=-100.0, judge_tau_full=0.001)  # the config alone would accept everything
    reply, revision = waiting(app, skip=2)
    told(app, 25, first=60)
    told(app, 25, first=60, right=False)
    with caplog.at_level(logging.WARNING, "services.learning.self_play"):
        assert app.self_play.judge_waiting() == 0
        told(app, 1, first=90, right=False)
        assert app.self_play.judge_waiting() == 0
    assert (
        [r.message for r in caplog.records].count(
            "the judge accepts nothing: on 50 verdicts no threshold reaches a precision of 0.98"
        )
        == len(caplog.records)
        == 1
    )
    assert pending(app, reply).keys() == {"lose"}
    assert revision not in {e.message_id for e in app.engine.store.events(kind="judged")}, "it goes on waiting"


def test_a_calibration_is_kept_until_there_is_another_verdict(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(app, 40)
    seen, fitted = counted(monkeypatch), []
    real = selfplay.fit_thresholds
    monkeypatch.setattr(selfplay, "fit_thresholds", lambda *given: (fitted.append(len(given[0])), real(*given))[1])
    first = app.self_play.thresholds()
    assert app.self_play.thresholds() == first
    assert (len(seen), fitted) == (40, [40])
    told(app, 1, first=40)
    app.self_play.thresholds()
    assert (len(seen), fitted) == (41, [40, 41]), "only the new one is scored"


@pytest.mark.slow
def test_what_an_adapter_learned_does_not_move_the_calibration(app: AppServices) -> None:
    told(app, 40)
    before = app.self_play.thresholds()
    state = {name: tensor + 0.05 for name, tensor in app.engine.shared_models.state().items()}
    app.engine.shared_models.publish(state, 1)
    afresh = selfplay.SelfPlayService(app.engine)
    assert afresh.thresholds() == before


# -- what it sees --------------------------------------------------------------------------------------------


def test_a_second_revision_is_scored_under_the_very_prompt_that_produced_it(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[list[dict[str, str]]] = []
    batching = app.engine.batching
    real = batching.stream

    def spy(model: Any, tokenizer: Any, prompt: Any, *how: Any) -> Any:
        prompts.append(list(prompt))
        return real(model, tokenizer, prompt, *how)

    monkeypatch.setattr(batching, "stream", spy)
    task = wrong_task(app)
    before = ask(app, "Hello!")
    reply = ask(app, task.question, before.conversation_id)
    first = list(app.chat.revise(reply.id, "it has some letters"))[-1]
    second = list(app.chat.revise(first.id, f"no, {task.truth}"))[-1]
    produced_by = prompts[-1]
    ask(app, "Thank you!", reply.conversation_id)
    seen = counted(monkeypatch)
    app.self_play.judge_waiting()
    (case,) = seen
    assert revision_messages(case.prompt, case.attempts, app.engine.loaded.settings) == produced_by
    assert case.attempts == [(reply.text, "it has some letters"), (first.text, f"no, {task.truth}")]
    assert (case.first, case.revision) == (reply.text, second.text)
    # the first revision, when a person's verdict on it is looked at, is seen without what came after it
    messages = app.engine.store.messages(reply.conversation_id)
    earlier = selfplay._case(messages, app.engine.store.message(first.id))
    assert earlier.attempts == [(reply.text, "it has some letters")] != attempts(messages, reply.id)


# -- what becomes of it --------------------------------------------------------------------------------------


def after(seconds: float) -> type[datetime]:
    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(seconds=seconds)

    return Later


def test_an_outright_hint_without_a_verdict_becomes_a_trace_after_the_grace_period(
    open_app: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app(judge_tau_full=5.0)  # out of reach: the confidence shows the gain
    task = wrong_task(app)
    reply = ask(app, task.question)
    revision = list(app.chat.revise(reply.id, f"no, {task.truth}"))[-1]
    grace = app.engine.config.verdict_grace_seconds
    monkeypatch.setattr(selfplay, "datetime", after(grace - 60))
    assert app.self_play.judge_waiting() == 0
    monkeypatch.setattr(selfplay, "datetime", after(grace))
    assert app.self_play.judge_waiting() == 2
    traces = pending(app, reply.id)
    assert (traces["win"].completion, traces["lose"].completion) == (revision.text, reply.text)
    assert {t.source for t in traces.values()} == {"judged"}
    (event,) = app.engine.store.events(kind="judged")
    assert event.data["accepted"] and event.data["certainty"] > 0.9
    expected = pytest.approx(0.5 * event.data["gain"] / 5.0, abs=1e-4)
    assert traces["win"].confidence == expected and traces["lose"].confidence == expected


def refused(app: AppServices, hint: str) -> str:
    """A wrong reply with a hint whose revision was called still wrong; the person has moved on. Returns the reply's id."""
    reply = ask(app, wrong_task(app).question)
    revision = list(app.chat.revise(reply.id, hint))[-1]
    app.feedback.still_wrong(revision.id)
    ask(app, "Thank you!", reply.conversation_id)
    return reply.id


def test_further_revisions_are_tried_where_all_were_refused_and_the_judge_picks_a_new_one(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = wrong_task(app)
    right = open_answer(task.facts[0], task.truth)
    conversation = app.chat.new_conversation().id
    reply = ask(app, task.question, conversation)
    revision = list(app.chat.revise(reply.id, f"no, {task.truth}"))[-1]
    app.engine.store.update_message(revision.id, text="A stone.", complete=True)  # as if the model had missed the hint
    app.feedback.still_wrong(revision.id)
    ask(app, "Thank you!", conversation)
    assert app.self_play.judge_waiting() == 0  # a person has judged that one
    assert app.self_play.try_again() == 2
    traces = pending(app, reply.id)
    assert traces["win"].completion == right and traces["win"].source == "judged"
    assert 0 < traces["win"].confidence <= 0.5
    assert app.self_play.try_again() == 0  # once


def test_a_person_who_answers_while_further_revisions_are_tried_has_the_last_word(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = wrong_task(app)
    reply = ask(app, task.question)
    revision = list(app.chat.revise(reply.id, f"no, {task.truth}"))[-1]
    app.engine.store.update_message(revision.id, text="A stone.", complete=True)
    app.feedback.still_wrong(revision.id)
    ask(app, "Thank you!", reply.conversation_id)
    real = selfplay.replies

    def interrupted(*arguments: Any, **how: Any) -> list[list[str]]:
        found = real(*arguments, **how)
        app.feedback.edit(reply.id, "Something else.")
        return found

    monkeypatch.setattr(selfplay, "replies", interrupted)
    assert app.self_play.try_again() == 0
    assert pending(app, reply.id)["win"].completion == "Something else."


def test_no_further_revision_of_a_vague_hint_is_taken_for_right(app: AppServices) -> None:
    reply = refused(app, "it has 5 letters")
    assert app.self_play.try_again() == 0
    assert [t.source for t in pending(app, reply).values()] == ["unfixed"]
    assert len(app.engine.store.events(kind="tried again")) == 1


def test_a_vague_hint_does_not(app: AppServices, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = ask(app, wrong_task(app).question)
    list(app.chat.revise(reply.id, "it has 5 letters"))
    monkeypatch.setattr(selfplay, "datetime", after(1000))
    assert app.self_play.judge_waiting() == 0
    assert pending(app, reply.id).keys() == {"lose"}


def test_a_judged_trace_never_outweighs_a_human_word(app: AppServices) -> None:
    reply, revision = waiting(app)
    assert app.self_play.judge_waiting() == 2
    assert all(0 < t.confidence <= 0.5 for t in pending(app, reply).values())
    app.feedback.still_wrong(revision)
    assert {(t.side, t.source) for t in pending(app, reply).values()} == {("lose", "unfixed")}
    app.feedback.better(revision)
    assert {(t.side, t.source, t.confidence) for t in pending(app, reply).values()} == {
        ("win", "confirmed", 1.0),
        ("lose", "confirmed", 1.0),
    }


@pytest.mark.parametrize("word", ["better", "still_wrong", "clear_vote", "deleted"])
def test_a_person_who_speaks_while_the_model_scores_has_the_last_word(
    app: AppServices, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    reply, revision = waiting(app)
    conversation = app.engine.store.message(reply).conversation_id
    real = selfplay.scores

    def interrupted(*arguments: Any) -> list[Score]:
        found = real(*arguments)
        if word == "deleted":
            app.chat.delete(conversation)
        else:
            # of a revision only the verdict is withdrawn, and there is none yet: everything said is withdrawn on the reply
            getattr(app.feedback, word)(reply if word == "clear_vote" else revision)
        return found

    monkeypatch.setattr(selfplay, "scores", interrupted)
    assert app.self_play.judge_waiting() == 0
    assert "judged" not in {t.source for t in app.engine.store.traces()}
    if word == "better":
        assert pending(app, reply)["win"].confidence == 1.0


def test_on_a_question_that_a_person_settled_the_judge_has_no_say(app: AppServices) -> None:
    task = wrong_task(app)
    correct(app, task)
    other = ask(app, task.question)
    list(app.chat.revise(other.id, f"no, {next(a for a in ANSWERS if a != task.truth)}"))
    ask(app, "Thank you!", other.conversation_id)
    assert app.self_play.judge_waiting() == 0
    assert pending(app, other.id).keys() == {"lose"}


@pytest.mark.parametrize(
    ("then", "traces"),
    [
        (lambda app, reply, revision: None, 2),
        (lambda app, reply, revision: app.feedback.clear_vote(reply), 0),
        (lambda app, reply, revision: app.feedback.edit(reply, "Something else."), 0),
        (lambda app, reply, revision: app.feedback.still_wrong(revision), 0),
    ],
    ids=["nothing", "vote taken back", "edited", "still wrong"],
)
def test_a_complaint_that_a_round_took_along_still_comes_before_the_judge(
    app: AppServices, then: Callable[[AppServices, str, str], Any], traces: int
) -> None:
    reply, revision = waiting(app)
    correct(app, wrong_task(app, skip=1))
    claimed = app.engine.store.claim_round(app.engine.base, 0)
    assert claimed is not None and reply in {t.subject_id for t in claimed[1]}
    app.engine.store.finish_round(claimed[0].id, "promoted")
    then(app, reply, revision)
    assert app.self_play.judge_waiting() == traces


@pytest.mark.slow
def test_what_the_judge_accepted_starts_a_round(app: AppServices) -> None:
    reply, _ = waiting(app)
    app.self_play.judge_waiting()
    assert app.learning.run_pending() == 1
    taught = [t for t in app.engine.store.traces(subject_id=reply) if t.source == "judged"]
    assert len(taught) == 2 and {t.status for t in taught} <= {"trained", "skipped"}, "the gate decides which"
