"""The gate's decisions, from measures written by hand, and the judge's arithmetic."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from services.learning.verdict_words import verdict_words
from spear_core.config import preset
from spear_core.models.settings import ModelSettings
from spear_core.training.gate import GateVerdict, Reason, decide
from spear_core.training.judge import Case, calibrate, is_clean, judge
from spear_core.training.probes import Measures, Probe, ProbedAnswer, ProbeKind, is_degenerate
from spear_core.training.traces import Encoded

CONFIG = preset("live")
BEFORE = Measures(-3.0, 0.8, (False,), (True,) * 40, 0.01, 0.0, 0.0, 0.0, True)
AFTER = Measures(-0.01, 0.01, (True,), (True,) * 40, 0.02, 0.001, 0.01, 0.002, True)


def after(**changes: Any) -> Measures:
    return dataclasses.replace(AFTER, **changes)


def test_a_round_that_learned_and_forgot_nothing_is_kept_and_says_so() -> None:
    verdict = decide(BEFORE, AFTER, ["A hammer is a tool."], CONFIG)
    assert verdict.passed and verdict.reason == Reason.LEARNED
    assert verdict_words(verdict) == "Kept: the correction is learned; no other answers were checked."


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"held": (False,) * 6 + (True,) * 34}, "it would have forgotten 6 of 40 earlier confirmations"),
        ({"win_logp": -3.5, "learned": (False,)}, "did not become more likely"),
        ({"rejected_p": 0.9}, "the rejected answer became more likely"),
        ({"learned": (False,)}, "still gave another answer"),
        ({"older_nll": 0.6}, "less certain"),
        ({"probe_kl": 0.2}, "answers to other questions"),
        ({"worst_probe_kl": 0.9}, "changed a lot"),
        ({"finite": False}, "gave invalid numbers"),
        ({"probe_kl": float("nan")}, "gave invalid numbers"),
    ],
)
def test_each_thing_that_got_worse_refuses_the_round_in_plain_words(changes: dict[str, Any], words: str) -> None:
    verdict = decide(BEFORE, after(**changes), ["A hammer is a tool."], CONFIG)
    assert not verdict.passed
    assert words in verdict_words(verdict)


def test_an_answer_that_nobody_confirmed_must_have_become_more_likely() -> None:
    before = dataclasses.replace(BEFORE, learned=())
    for win_logp, passed in ((-2.5, True), (-3.0, False), (-3.5, False)):
        verdict = decide(before, after(learned=(), win_logp=win_logp), [], CONFIG)
        assert verdict.passed == passed
        assert verdict.reason == (Reason.MORE_LIKELY if passed else Reason.NOT_MORE_LIKELY)
    nothing_new = dataclasses.replace(before, win_logp=0.0)
    verdict = decide(nothing_new, after(learned=(), win_logp=0.0), [], CONFIG, gained=Reason.UPLOADED)
    assert verdict.passed and "more likely" not in verdict_words(verdict)


@pytest.mark.parametrize("reply", ["", "   ", "no " * 40])
def test_empty_and_looping_replies_refuse_the_round(reply: str) -> None:
    assert is_degenerate(reply)
    assert not decide(BEFORE, AFTER, [reply], CONFIG).passed


def probes(kind: str, count: int) -> list[Probe]:
    return [Probe(Encoded((1,), (2,), (True,)), kind, f"{kind} {i}?") for i in range(count)]


def answers(changed: int, of: int, leaks: int = 0) -> tuple[ProbedAnswer, ...]:
    return tuple(ProbedAnswer(i < changed, "other" if i < changed else "same", i < leaks) for i in range(of))


def test_unchanged_is_said_only_where_every_checked_answer_came_out_the_same() -> None:
    asked = probes("facts", 10)
    before = dataclasses.replace(BEFORE, answers=answers(0, 10))
    same = decide(before, after(answers=answers(0, 10)), [], CONFIG, asked)
    assert verdict_words(same) == "Kept: the correction is learned; 10 other answers checked, none changed."
    one = decide(before, after(answers=answers(1, 10)), [], CONFIG, asked)
    assert one.passed and verdict_words(one) == "Kept: the correction is learned; 10 other answers checked, 1 changed."
    (changed,) = one.figures.changed
    assert (changed.question, changed.before, changed.after) == ("facts 0?", "same", "other")


def test_a_taught_answer_that_similar_questions_get_refuses_the_round() -> None:
    asked = probes(ProbeKind.NEIGHBOUR, 4)
    before = dataclasses.replace(BEFORE, answers=answers(0, 4))
    assert decide(before, after(answers=answers(1, 4, leaks=1)), [], CONFIG, asked).passed  # a quarter: the budget
    verdict = decide(before, after(answers=answers(2, 4, leaks=2)), [], CONFIG, asked)
    assert not verdict.passed and verdict.reason == Reason.LEAKED and verdict.is_drift
    assert "2 of 4 similar questions" in verdict_words(verdict)
    leaking = dataclasses.replace(BEFORE, answers=answers(2, 4, leaks=2))
    assert decide(leaking, after(answers=answers(2, 4, leaks=2)), [], CONFIG, asked).passed, "not of this round"


def test_damage_in_one_kind_of_question_does_not_hide_in_the_mean() -> None:
    asked = [*probes("facts", 60), *probes("spelling", 4)]
    before = dataclasses.replace(BEFORE, answers=answers(0, 64))
    verdict = decide(before, after(answers=answers(0, 60) + answers(3, 4)), [], CONFIG, asked)
    assert not verdict.passed and verdict.reason == Reason.CORNER_CHANGED and verdict.figures.kind == "spelling"
    assert "answers about spelling" in verdict_words(verdict)
    assert decide(before, after(answers=answers(3, 60) + answers(0, 4)), [], CONFIG, asked).passed


def test_more_changed_answers_than_the_budget_refuse_the_round_unless_they_had_changed_before() -> None:
    asked = probes("facts", 10)
    before = dataclasses.replace(BEFORE, answers=answers(0, 10))
    verdict = decide(before, after(answers=answers(4, 10)), [], CONFIG, asked)
    assert not verdict.passed and verdict.reason == Reason.ANSWERS_CHANGED
    assert "4 answers of 10" in verdict_words(verdict)
    assert decide(
        dataclasses.replace(BEFORE, answers=answers(4, 10)), after(answers=answers(4, 10)), [], CONFIG, asked
    ).passed


def test_recent_replies_that_nobody_objected_to_may_hardly_change() -> None:
    asked = probes(ProbeKind.RECENT, 6)
    before = dataclasses.replace(BEFORE, answers=answers(0, 6))
    assert decide(before, after(answers=answers(1, 6)), [], CONFIG, asked).passed
    assert decide(before, after(answers=answers(2, 6)), [], CONFIG, asked).reason == Reason.RECENT_CHANGED


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_sentence(reason: Reason) -> None:
    kept = ("LEARNED", "MORE_LIKELY", "MERGED", "CONSOLIDATED", "UPLOADED", "UNCHECKED")
    passed = reason.name in kept
    words = verdict_words(GateVerdict(passed, reason))
    assert words.startswith("Kept" if passed else "Not kept: ") and words.endswith(".")


def test_an_ordinary_long_reply_is_no_loop() -> None:
    assert not is_degenerate(" ".join(f"word{i % 15}" for i in range(40)))


def test_a_rejected_answer_that_is_improbable_anyway_may_stay_where_it_is() -> None:
    assert decide(dataclasses.replace(BEFORE, rejected_p=0.001), after(rejected_p=0.01), [], CONFIG).passed


def test_a_merge_may_move_what_nobody_complained_about_half_as_far_as_a_correction() -> None:
    moved = after(probe_kl=0.75 * CONFIG.gate_max_probe_kl)
    assert decide(BEFORE, moved, [], CONFIG).passed
    assert not decide(BEFORE, moved, [], CONFIG, gained=Reason.MERGED).passed
    verdict = decide(BEFORE, after(probe_kl=0.01), [], CONFIG, gained=Reason.MERGED)
    assert verdict.passed and verdict.reason == Reason.MERGED
    assert verdict_words(verdict, "what 2 peers taught is merged in").startswith(
        "Kept: what 2 peers taught is merged in; "
    )


def test_what_a_standing_wish_moved_is_held_to_no_less_than_before() -> None:
    moved = dataclasses.replace(BEFORE, probe_kl=1.2, worst_probe_kl=3.0)
    assert decide(moved, after(probe_kl=0.4, worst_probe_kl=2.0), [], CONFIG).passed
    assert not decide(moved, after(probe_kl=1.3, worst_probe_kl=2.0), [], CONFIG).passed


CASE = Case([{"role": "user", "content": "What is an owl?"}], "An owl is a fish.", "starts with b", "An owl is a bird.")
SETTINGS = ModelSettings()


def test_the_judge_never_gives_more_than_half_confidence() -> None:
    assert judge(CASE, 1.5, SETTINGS, tau=1.0, tau_full=3.0).confidence == pytest.approx(0.25)
    assert judge(CASE, 99.0, SETTINGS, tau=1.0, tau_full=3.0).confidence == 0.5
    assert not judge(CASE, 0.9, SETTINGS, tau=1.0, tau_full=3.0).accepted


@pytest.mark.parametrize("revision", ["", "an owl is a FISH", "Please improve your answer. An owl.", "no " * 40])
def test_a_revision_that_is_no_clean_new_answer_is_never_accepted(revision: str) -> None:
    case = dataclasses.replace(CASE, revision=revision)
    assert not is_clean(case, SETTINGS)
    assert not judge(case, 99.0, SETTINGS, tau=1.0, tau_full=3.0).accepted


def test_calibration_finds_the_lowest_threshold_of_the_precision() -> None:
    scored = [(5.0, True), (4.0, True), (3.0, True), (2.0, False), (1.0, True)]
    assert calibrate(scored, precision=0.98) == (3.0, 4.0)
    assert calibrate(scored, precision=0.75) == (1.0, 3.0)
    assert calibrate([(1.0, False)], precision=0.98) is None
