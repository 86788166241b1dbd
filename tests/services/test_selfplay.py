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
from services import selfplay
from services.conversation import attempts
from services.workbench import Workbench
from spear_core.judge import Case, Score, Thresholds
from spear_core.prompts import revision_messages
from tests.services.bench_desk import WORLD, ask, correct, wrong_task
from tests.services.conftest import OpenBench

FACTS = WORLD.of("kind", half_known=True)
ANSWERS = WORLD.candidates["kind"]


def hinted(bench: Workbench, number: int, hint: str, says: str) -> str:
    """A wrong reply, a hint and a revision, as the app stores them. Returns the revision's id."""
    store, fact = bench.engine.store, FACTS[number]
    conversation = store.create_conversation()
    question = store.add_message(conversation.id, "user", f"What is {fact.phrase}?")
    wrong = next(a for a in ANSWERS if a not in (says, fact.truth))
    reply = store.add_message(conversation.id, "assistant", open_answer(fact, wrong), parent_id=question.id)
    bench.feedback.complain(reply.id, reply.id, hint)
    return store.add_message(
        conversation.id, "assistant", open_answer(fact, says), kind="revision", parent_id=question.id, revises_id=reply.id, hint=hint
    ).id  # fmt: skip


def told(bench: Workbench, count: int, *, right: bool = True, first: int = 0) -> None:
    """`count` answers said outright, repeated by the model, and called better (or still wrong)."""
    for number in range(first, first + count):
        truth = FACTS[number % len(FACTS)].truth
        revision = hinted(bench, number % len(FACTS), f"no, {truth}", truth)
        (bench.feedback.better if right else bench.feedback.still_wrong)(revision)


def waiting(bench: Workbench, skip: int = 0) -> tuple[str, str]:
    """A reply with an outright hint whose revision got no verdict; the person has moved on. (reply, revision)"""
    task = wrong_task(bench, skip)
    reply = ask(bench, task.question)
    revision = list(bench.chat.revise(reply.id, f"no, {task.truth}"))[-1]
    assert task.verdict(revision.text)
    ask(bench, "Thank you!", reply.conversation_id)
    return reply.id, revision.id


def pending(bench: Workbench, subject: str) -> dict[str, Trace]:
    return {t.side: t for t in bench.engine.store.traces(status="pending", subject_id=subject)}


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


def test_with_too_few_verdicts_the_config_decides(bench: Workbench) -> None:
    told(bench, 39)
    config = bench.engine.config
    assert bench.self_play.thresholds() == Thresholds(config.judge_tau, config.judge_min_p, config.judge_tau_full)


def test_with_enough_verdicts_peoples_own_decide(open_bench: OpenBench) -> None:
    bench = open_bench(judge_tau=1000.0)  # the config alone would accept nothing
    reply, _ = waiting(bench, skip=2)
    told(bench, 40, first=60)
    own = bench.self_play.thresholds()
    assert own is not None
    assert own.min_p == 0.95, "said outright, all of them are certain: the strictest of equal settings"
    assert 0 < own.tau < own.tau_full < 1000
    assert bench.self_play.judge_waiting() == 2
    assert pending(bench, reply)["win"].source == "judged"


def test_verdicts_on_revisions_without_a_hint_or_of_another_base_do_not_count(bench: Workbench) -> None:
    told(bench, 39)
    bench.feedback.better(hinted(bench, 50, "", FACTS[50].truth))
    config = bench.engine.config
    assert bench.self_play.thresholds() == Thresholds(config.judge_tau, config.judge_min_p, config.judge_tau_full)
    last = hinted(bench, 51, "no, it is another", FACTS[51].truth)
    bench.feedback.better(last)
    assert len(bench.self_play._verdicts()) == 40
    store = bench.engine.store
    store.set_learn(store.message(last).conversation_id, False)
    assert len(bench.self_play._verdicts()) == 39, "nothing is learned from a conversation that may not teach"
    bench.engine.model = replace(bench.engine.model, loaded=replace(bench.engine.loaded, fingerprint="another"))
    assert bench.self_play._verdicts() == {}


def test_verdicts_that_contradict_each_other_let_nothing_through_and_the_log_says_so_once(
    open_bench: OpenBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = open_bench(judge_tau=-100.0, judge_tau_full=0.001)  # the config alone would accept everything
    reply, revision = waiting(bench, skip=2)
    told(bench, 25, first=60)
    told(bench, 25, first=60, right=False)
    with caplog.at_level(logging.WARNING, "services.selfplay"):
        assert bench.self_play.judge_waiting() == 0
        told(bench, 1, first=90, right=False)
        assert bench.self_play.judge_waiting() == 0
    assert (
        [r.message for r in caplog.records].count(
            "the judge accepts nothing: on 50 verdicts no threshold reaches a precision of 0.98"
        )
        == len(caplog.records)
        == 1
    )
    assert pending(bench, reply).keys() == {"lose"}
    assert revision not in {e.message_id for e in bench.engine.store.events(kind="judged")}, "it goes on waiting"


def test_a_calibration_is_kept_until_there_is_another_verdict(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(bench, 40)
    seen, fitted = counted(monkeypatch), []
    real = selfplay.fit_thresholds
    monkeypatch.setattr(selfplay, "fit_thresholds", lambda *given: (fitted.append(len(given[0])), real(*given))[1])
    first = bench.self_play.thresholds()
    assert bench.self_play.thresholds() == first
    assert (len(seen), fitted) == (40, [40])
    told(bench, 1, first=40)
    bench.self_play.thresholds()
    assert (len(seen), fitted) == (41, [40, 41]), "only the new one is scored"


def test_what_an_adapter_learned_does_not_move_the_calibration(bench: Workbench) -> None:
    told(bench, 40)
    before = bench.self_play.thresholds()
    state = {name: tensor + 0.05 for name, tensor in bench.engine.twins.state().items()}
    bench.engine.twins.publish(state, 1)
    afresh = selfplay.SelfPlayService(bench.engine)
    assert afresh.thresholds() == before


# -- what it sees --------------------------------------------------------------------------------------------


def test_a_second_revision_is_scored_under_the_very_prompt_that_produced_it(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[list[dict[str, str]]] = []
    batching = bench.engine.batching
    real = batching.stream

    def spy(model: Any, tokenizer: Any, prompt: Any, *how: Any) -> Any:
        prompts.append(list(prompt))
        return real(model, tokenizer, prompt, *how)

    monkeypatch.setattr(batching, "stream", spy)
    task = wrong_task(bench)
    before = ask(bench, "Hello!")
    reply = ask(bench, task.question, before.conversation_id)
    first = list(bench.chat.revise(reply.id, "it has some letters"))[-1]
    second = list(bench.chat.revise(first.id, f"no, {task.truth}"))[-1]
    produced_by = prompts[-1]
    ask(bench, "Thank you!", reply.conversation_id)
    seen = counted(monkeypatch)
    bench.self_play.judge_waiting()
    (case,) = seen
    assert revision_messages(case.prompt, case.attempts, bench.engine.loaded.settings) == produced_by
    assert case.attempts == [(reply.text, "it has some letters"), (first.text, f"no, {task.truth}")]
    assert (case.first, case.revision) == (reply.text, second.text)
    # the first revision, when a person's verdict on it is looked at, is seen without what came after it
    messages = bench.engine.store.messages(reply.conversation_id)
    earlier = selfplay._case(messages, bench.engine.store.message(first.id))
    assert earlier.attempts == [(reply.text, "it has some letters")] != attempts(messages, reply.id)


# -- what becomes of it --------------------------------------------------------------------------------------


def after(seconds: float) -> type[datetime]:
    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(seconds=seconds)

    return Later


def test_an_outright_hint_without_a_verdict_becomes_a_trace_after_the_grace_period(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = open_bench(judge_tau_full=5.0)  # out of reach: the confidence shows the gain
    task = wrong_task(bench)
    reply = ask(bench, task.question)
    revision = list(bench.chat.revise(reply.id, f"no, {task.truth}"))[-1]
    grace = bench.engine.config.verdict_grace_seconds
    monkeypatch.setattr(selfplay, "datetime", after(grace - 60))
    assert bench.self_play.judge_waiting() == 0
    monkeypatch.setattr(selfplay, "datetime", after(grace))
    assert bench.self_play.judge_waiting() == 2
    traces = pending(bench, reply.id)
    assert (traces["win"].completion, traces["lose"].completion) == (revision.text, reply.text)
    assert {t.source for t in traces.values()} == {"judged"}
    (event,) = bench.engine.store.events(kind="judged")
    assert event.data["accepted"] and event.data["certainty"] > 0.9
    expected = pytest.approx(0.5 * event.data["gain"] / 5.0, abs=1e-4)
    assert traces["win"].confidence == expected and traces["lose"].confidence == expected


def refused(bench: Workbench, hint: str) -> str:
    """A wrong reply with a hint whose revision was called still wrong; the person has moved on. Returns the reply's id."""
    reply = ask(bench, wrong_task(bench).question)
    revision = list(bench.chat.revise(reply.id, hint))[-1]
    bench.feedback.still_wrong(revision.id)
    ask(bench, "Thank you!", reply.conversation_id)
    return reply.id


def test_further_revisions_are_tried_where_all_were_refused_and_the_judge_picks_a_new_one(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = wrong_task(bench)
    right = open_answer(task.facts[0], task.truth)
    conversation = bench.chat.new_conversation().id
    reply = ask(bench, task.question, conversation)
    revision = list(bench.chat.revise(reply.id, f"no, {task.truth}"))[-1]
    bench.engine.store.update_message(
        revision.id, text="A stone.", complete=True
    )  # as if the model had missed the hint
    bench.feedback.still_wrong(revision.id)
    ask(bench, "Thank you!", conversation)
    assert bench.self_play.judge_waiting() == 0  # a person has judged that one
    assert bench.self_play.try_again() == 2
    traces = pending(bench, reply.id)
    assert traces["win"].completion == right and traces["win"].source == "judged"
    assert 0 < traces["win"].confidence <= 0.5
    assert bench.self_play.try_again() == 0  # once


def test_a_person_who_answers_while_further_revisions_are_tried_has_the_last_word(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = wrong_task(bench)
    reply = ask(bench, task.question)
    revision = list(bench.chat.revise(reply.id, f"no, {task.truth}"))[-1]
    bench.engine.store.update_message(revision.id, text="A stone.", complete=True)
    bench.feedback.still_wrong(revision.id)
    ask(bench, "Thank you!", reply.conversation_id)
    real = selfplay.replies

    def interrupted(*arguments: Any, **how: Any) -> list[list[str]]:
        found = real(*arguments, **how)
        bench.feedback.edit(reply.id, "Something else.")
        return found

    monkeypatch.setattr(selfplay, "replies", interrupted)
    assert bench.self_play.try_again() == 0
    assert pending(bench, reply.id)["win"].completion == "Something else."


def test_no_further_revision_of_a_vague_hint_is_taken_for_right(bench: Workbench) -> None:
    reply = refused(bench, "it has 5 letters")
    assert bench.self_play.try_again() == 0
    assert [t.source for t in pending(bench, reply).values()] == ["unfixed"]
    assert len(bench.engine.store.events(kind="tried again")) == 1


def test_a_vague_hint_does_not(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = ask(bench, wrong_task(bench).question)
    list(bench.chat.revise(reply.id, "it has 5 letters"))
    monkeypatch.setattr(selfplay, "datetime", after(1000))
    assert bench.self_play.judge_waiting() == 0
    assert pending(bench, reply.id).keys() == {"lose"}


def test_a_judged_trace_never_outweighs_a_human_word(bench: Workbench) -> None:
    reply, revision = waiting(bench)
    assert bench.self_play.judge_waiting() == 2
    assert all(0 < t.confidence <= 0.5 for t in pending(bench, reply).values())
    bench.feedback.still_wrong(revision)
    assert {(t.side, t.source) for t in pending(bench, reply).values()} == {("lose", "unfixed")}
    bench.feedback.better(revision)
    assert {(t.side, t.source, t.confidence) for t in pending(bench, reply).values()} == {
        ("win", "confirmed", 1.0),
        ("lose", "confirmed", 1.0),
    }


@pytest.mark.parametrize("word", ["better", "still_wrong", "clear_vote", "deleted"])
def test_a_person_who_speaks_while_the_model_scores_has_the_last_word(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    reply, revision = waiting(bench)
    conversation = bench.engine.store.message(reply).conversation_id
    real = selfplay.scores

    def interrupted(*arguments: Any) -> list[Score]:
        found = real(*arguments)
        if word == "deleted":
            bench.chat.delete(conversation)
        else:
            getattr(bench.feedback, word)(revision)
        return found

    monkeypatch.setattr(selfplay, "scores", interrupted)
    assert bench.self_play.judge_waiting() == 0
    assert "judged" not in {t.source for t in bench.engine.store.traces()}
    if word == "better":
        assert pending(bench, reply)["win"].confidence == 1.0


def test_on_a_question_that_a_person_settled_the_judge_has_no_say(bench: Workbench) -> None:
    task = wrong_task(bench)
    correct(bench, task)
    other = ask(bench, task.question)
    list(bench.chat.revise(other.id, f"no, {next(a for a in ANSWERS if a != task.truth)}"))
    ask(bench, "Thank you!", other.conversation_id)
    assert bench.self_play.judge_waiting() == 0
    assert pending(bench, other.id).keys() == {"lose"}


@pytest.mark.parametrize(
    ("then", "traces"),
    [
        (lambda bench, reply, revision: None, 2),
        (lambda bench, reply, revision: bench.feedback.clear_vote(reply), 0),
        (lambda bench, reply, revision: bench.feedback.edit(reply, "Something else."), 0),
        (lambda bench, reply, revision: bench.feedback.still_wrong(revision), 0),
    ],
    ids=["nothing", "vote taken back", "edited", "still wrong"],
)
def test_a_complaint_that_a_round_took_along_still_comes_before_the_judge(
    bench: Workbench, then: Callable[[Workbench, str, str], Any], traces: int
) -> None:
    reply, revision = waiting(bench)
    correct(bench, wrong_task(bench, skip=1))
    claimed = bench.engine.store.claim_round(bench.engine.base, 0)
    assert claimed is not None and reply in {t.subject_id for t in claimed[1]}
    bench.engine.store.finish_round(claimed[0].id, "promoted")
    then(bench, reply, revision)
    assert bench.self_play.judge_waiting() == traces


def test_what_the_judge_accepted_starts_a_round(bench: Workbench) -> None:
    reply, _ = waiting(bench)
    bench.self_play.judge_waiting()
    assert bench.learning.run_pending() == 1
    taught = [t for t in bench.engine.store.traces(subject_id=reply) if t.source == "judged"]
    assert len(taught) == 2 and {t.status for t in taught} <= {"trained", "skipped"}, "the gate decides which"
