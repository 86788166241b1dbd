"""The judge's arithmetic by hand-worked numbers, and its scores against the plain computation on the pocket model."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from pocket.wordings import open_answer
from pocket.world import load_world
from spear_core.config import preset
from spear_core.errors import ConfigError
from spear_core.models.loading import LoadedModel, load_model
from spear_core.models.prompts import encode_completion, encode_prompt
from spear_core.models.settings import ModelSettings
from spear_core.training.judge import (
    Case,
    Score,
    Scored,
    Thresholds,
    calibrate,
    certainty,
    fit_thresholds,
    is_clean,
    judge,
    scores,
)
from spear_core.training.scoring import Row
from spear_core.training.traces import Encoder, Messages

POCKET_MODEL = Path(__file__).resolve().parents[3] / "assets" / "pocket-model"
SETTINGS = ModelSettings()
CASE = Case([{"role": "user", "content": "What is an owl?"}], "An owl is a fish.", "starts with b", "An owl is a bird.")
AGAIN = dataclasses.replace(CASE, later=(("An owl is a boat.", "it has four letters"),))


def some(count: int, gain: float, p: float, *, right: bool, clean: bool = True) -> list[Scored]:
    return [Scored(Score(gain, p), clean, right)] * count


# -- certainty -----------------------------------------------------------------------------------------------


def test_certainty_is_the_probability_of_the_whole_completion() -> None:
    # three tokens of p = .5 each: .5 ** 3 = .125
    row = Row(mean_logp=math.log(0.5), masked_logp=3 * math.log(0.5), learned=False)
    assert certainty(row, 3) == pytest.approx(0.125)


@pytest.mark.parametrize(("tokens", "expected"), [(64, 0.9**64), (65, 0.9)])
def test_a_completion_over_64_tokens_is_judged_by_its_mean(tokens: int, expected: float) -> None:
    row = Row(mean_logp=math.log(0.9), masked_logp=tokens * math.log(0.9), learned=False)
    assert certainty(row, tokens) == pytest.approx(expected)


# -- one judgement -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gain", "p", "accepted"), [(1.0, 0.8, True), (0.99, 1.0, False), (9.0, 0.79, False), (9.0, 0.8, True)]
)
def test_a_revision_needs_both_the_gain_and_the_certainty(gain: float, p: float, accepted: bool) -> None:
    verdict = judge(CASE, gain, SETTINGS, tau=1.0, tau_full=4.0, certainty=p, min_p=0.8)
    assert verdict.accepted is accepted
    # 0.5 * 1 / 4 = .125; beyond tau_full it stays at .5
    assert verdict.confidence == pytest.approx(({1.0: 0.125, 9.0: 0.5}[gain]) if accepted else 0.0)


def test_a_revision_that_says_again_what_was_refused_is_no_new_answer() -> None:
    assert is_clean(AGAIN, SETTINGS)
    assert not is_clean(dataclasses.replace(AGAIN, revision="an owl is a fish"), SETTINGS)
    assert not is_clean(dataclasses.replace(AGAIN, revision="An owl  is a BOAT!"), SETTINGS)


def test_attempts_are_all_refused_replies_with_their_hints_in_order() -> None:
    assert AGAIN.attempts == [("An owl is a fish.", "starts with b"), ("An owl is a boat.", "it has four letters")]


# -- calibration ---------------------------------------------------------------------------------------------


def test_a_gain_threshold_lets_nothing_in_that_brings_wrong_answers_only() -> None:
    # 3 of 3, 3 of 4, 3 of 5: the wrong ones below the third would still leave 3/5 = .6
    scored = [(5.0, True), (4.0, True), (3.0, True), (2.0, False), (1.0, False)]
    assert calibrate(scored, precision=0.6) == (3.0, 4.0)


def test_a_gain_of_nothing_counts_for_nothing() -> None:
    # the right ones at 0 and below would get no confidence, so they are no reason for a lower threshold
    assert calibrate([(2.0, True), (0.0, True), (-1.0, True)]) == (2.0, 2.0)
    assert calibrate([(0.0, True), (-1.0, True)]) is None


def test_certainty_separates_what_the_gain_cannot() -> None:
    # half of the vague ones are right at any gain; all of the certain ones are
    vague = some(20, 1.0, 0.55, right=True) + some(20, 1.0, 0.55, right=False)
    sure = some(15, 0.5, 0.97, right=True) + some(15, 1.5, 0.97, right=True)
    assert calibrate([(s.score.gain, s.right) for s in vague + sure], 0.98) == (1.5, 1.5)  # 15 of 50
    # 30 of 30 at .95; at .5 only 15 of 15 reach the precision; sorted right gains 15 x .5, 15 x 1.5: the 15th is .5
    assert fit_thresholds(vague + sure, 0.98) == Thresholds(tau=0.5, min_p=0.95, tau_full=0.5)


def test_the_laxest_certainty_that_pays_is_chosen_and_of_equal_ones_the_strictest() -> None:
    sure = some(40, 1.0, 0.96, right=True)
    assert fit_thresholds(sure) == Thresholds(1.0, 0.95, 1.0), "0.3 to 0.9 accept the same 40"
    # 42 of 42 at .8 is no more than 1.05 times 40; 43 is
    assert fit_thresholds(sure + some(2, 1.0, 0.85, right=True)) == Thresholds(1.0, 0.95, 1.0)
    assert fit_thresholds(sure + some(3, 1.0, 0.85, right=True)) == Thresholds(1.0, 0.8, 1.0)


def test_too_few_acceptances_are_no_calibration() -> None:
    assert fit_thresholds(some(19, 1.0, 0.96, right=True)) is None
    assert fit_thresholds(some(20, 1.0, 0.96, right=True)) is not None
    assert fit_thresholds(some(20, 1.0, 0.96, right=True, clean=False)) is None
    # the twentieth is bought with a lower certainty, and one wrong in 21 is too many
    few = some(19, 1.0, 0.96, right=True) + some(1, 1.0, 0.75, right=True)
    assert fit_thresholds(few) == Thresholds(1.0, 0.7, 1.0)
    assert fit_thresholds(few + some(1, 1.0, 0.75, right=False)) is None


def test_unclean_cases_neither_help_nor_hurt() -> None:
    sure = some(30, 1.0, 0.96, right=True)
    assert fit_thresholds(sure + some(30, 1.0, 0.96, right=False, clean=False)) == fit_thresholds(sure)


def test_no_threshold_is_better_than_a_wrong_one() -> None:
    assert fit_thresholds(some(50, 1.0, 0.96, right=True) + some(50, 1.0, 0.96, right=False)) is None


def test_the_defaults_accept_what_an_outright_hint_makes_certain_and_not_a_guess() -> None:
    live = preset("live")
    assert math.isfinite(live.judge_tau) and live.judge_tau > 0 and 0.5 < live.judge_min_p <= 1
    known = {"tau": live.judge_tau, "tau_full": live.judge_tau_full, "min_p": live.judge_min_p}
    assert judge(CASE, 1.2, SETTINGS, **known, certainty=0.99).accepted
    assert not judge(CASE, 1.2, SETTINGS, **known, certainty=0.5).accepted


@pytest.mark.parametrize(
    ("key", "value"),
    [("judge_min_p", 1.1), ("judge_min_p", -0.1), ("judge_min_p", math.nan), ("judge_tau", math.nan), ("judge_tau_full", 0.0)],
)  # fmt: skip
def test_impossible_judge_settings_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=key):
        preset("live", **{key: value})


# -- scores on a model ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(str(POCKET_MODEL), dtype="float32")  # exact enough to compare two ways to compute


@torch.no_grad()
def logps(loaded: LoadedModel, prompt: Messages, said: str) -> list[float]:
    """Token by token, one plain forward."""
    head = encode_prompt(loaded.tokenizer, list(prompt), max_tokens=loaded.context_tokens // 2)
    tail = encode_completion(loaded.tokenizer, said)
    logits = loaded.model(input_ids=torch.tensor([head + tail])).logits[0, len(head) - 1 : -1]
    return logits.float().log_softmax(-1).gather(-1, torch.tensor(tail)[:, None])[:, 0].tolist()


def scores_of(loaded: LoadedModel, cases: list[Case]) -> list[Score]:
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    return scores(loaded.model, encoder, loaded.settings, cases, loaded.tokenizer.pad_token_id)


def test_gain_and_certainty_are_those_of_the_plain_computation_under_every_hint(loaded: LoadedModel) -> None:
    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def turn(reply: str, hint: str) -> list[dict[str, str]]:
        asked = loaded.settings.revise_with_hint.replace("{hint}", hint)
        return [{"role": "assistant", "content": reply}, {"role": "user", "content": asked}]

    once = [*CASE.prompt, *turn("An owl is a fish.", "starts with b")]
    twice = [*once, *turn("An owl is a boat.", "it has four letters")]
    for hinted, score in zip((once, twice), scores_of(loaded, [CASE, AGAIN]), strict=True):
        revised, first = (logps(loaded, hinted, said) for said in ("An owl is a bird.", "An owl is a fish."))
        plain, first_plain = (logps(loaded, CASE.prompt, said) for said in ("An owl is a bird.", "An owl is a fish."))
        expected = (mean(revised) - mean(plain)) - (mean(first) - mean(first_plain))
        assert score.gain == pytest.approx(expected, abs=1e-3)
        assert score.certainty == pytest.approx(math.exp(sum(revised)), abs=1e-3)


def test_a_stated_answer_makes_the_model_certain_and_a_vague_hint_does_not(loaded: LoadedModel) -> None:
    world = load_world()
    fact = world.of("kind", half_known=True)[0]
    wrong = next(c for c in world.candidates["kind"] if c != fact.truth)
    told = Case(
        [{"role": "user", "content": f"What is {fact.phrase}?"}],
        open_answer(fact, wrong),
        f"no, {fact.truth}",
        open_answer(fact, fact.truth),
    )
    vague = dataclasses.replace(told, hint=f"it contains {fact.truth[-1]}")
    sure, unsure = scores_of(loaded, [told, vague])
    assert sure.certainty > 0.9 and unsure.certainty < 0.7
    assert sure.gain > 0
