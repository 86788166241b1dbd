"""The losses, by numbers worked out by hand, and the properties the paper states."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spear_core.config import SpearConfig, preset
from spear_core.errors import ConfigError
from spear_core.training.losses import anchor_kl, distinguishing_mask, lose_loss, tail_mask, token_logps, win_loss

END = 9


def logps(*rows: list[float]) -> Tensor:
    return torch.tensor(rows).log()


def ones(t: Tensor) -> Tensor:
    return torch.ones_like(t)


def test_the_win_loss_is_the_mean_nll() -> None:
    # -ln .5 = .6931, -ln .25 = 1.3863; mean 1.0397
    p = logps([0.5, 0.25])
    assert win_loss(p, ones(p), torch.ones(1)).item() == pytest.approx(1.03972, abs=1e-5)


def test_confidence_weighs_a_win_without_rescaling_the_mean() -> None:
    # (1.0 * .6931 + 0.5 * .6931) / 2 tokens = .5199
    p = logps([0.5], [0.5])
    assert win_loss(p, ones(p), torch.tensor([1.0, 0.5])).item() == pytest.approx(0.51986, abs=1e-5)


def test_the_lose_loss_is_the_unlikelihood_above_the_margin() -> None:
    # p = .5 -> -ln(1 - .5) = .6931; p = .2 is at or below the margin .3 and adds nothing, but counts in the mean
    p = logps([0.5, 0.2])
    assert lose_loss(p, ones(p), torch.ones(1), margin=0.3).item() == pytest.approx(0.34657, abs=1e-5)


def test_masked_tokens_have_no_part_in_the_lose_loss() -> None:
    p = logps([0.9, 0.5])
    assert lose_loss(p, torch.tensor([[0.0, 1.0]]), torch.ones(1), margin=0.0).item() == pytest.approx(
        0.69315, abs=1e-5
    )


def test_half_confidence_halves_the_gradient_of_a_losing_trace() -> None:
    def gradient(confidence: float) -> float:
        p = logps([0.6]).requires_grad_()
        lose_loss(p, ones(p), torch.tensor([confidence]), margin=0.0).backward()
        assert p.grad is not None
        return p.grad.item()

    assert gradient(0.5) == pytest.approx(0.5 * gradient(1.0))


def test_a_certain_wrong_token_gives_a_finite_loss_and_gradient() -> None:
    p = torch.zeros(1, 1, requires_grad=True)  # log p = 0: p = 1
    loss = lose_loss(p, ones(p), torch.ones(1), margin=0.3)
    loss.backward()
    assert math.isfinite(loss.item())
    assert p.grad is not None and math.isfinite(p.grad.item())


def test_micro_batches_add_up_to_the_whole() -> None:
    p = logps([0.5, 0.25], [0.1, 0.9])
    parts = [win_loss(p[i : i + 1], ones(p[:1]), torch.ones(1), tokens=4).item() for i in range(2)]
    assert sum(parts) == pytest.approx(win_loss(p, ones(p), torch.ones(2)).item())


@given(st.floats(1e-3, 1 - 1e-3))
def test_win_and_lose_together_are_never_below_log_4(p: float) -> None:
    # f(p) = -log p - log(1 - p) has its minimum log 4 at p = 1/2 (arXiv 2605.07977, theory)
    row = torch.tensor([[p]], dtype=torch.float64).log()
    f = win_loss(row, ones(row), torch.ones(1)) + lose_loss(row, ones(row), torch.ones(1), margin=0.0)
    assert f.item() >= math.log(4) - 1e-9


@given(st.floats(0.5, 0.95), st.floats(1e-3, 1 - 1e-3))
def test_above_a_margin_over_one_half_the_infimum_is_that_of_the_margin(margin: float, p: float) -> None:
    if p <= margin:
        return
    row = torch.tensor([[p]], dtype=torch.float64).log()
    f = win_loss(row, ones(row), torch.ones(1)) + lose_loss(row, ones(row), torch.ones(1), margin=margin)
    assert f.item() >= math.log(1 / (margin * (1 - margin))) - 1e-6


def test_the_anchor_kl_is_zero_at_the_base_and_the_hand_worked_value_away_from_it() -> None:
    base = torch.tensor([[[0.5, 0.5]]]).log()
    assert anchor_kl(base, base, torch.ones(1, 1)).item() == pytest.approx(0.0, abs=1e-7)
    # KL((.5, .5) || (.25, .75)) = .5 ln 2 + .5 ln (2/3) = .1438
    other = torch.tensor([[[0.25, 0.75]]]).log()
    assert anchor_kl(base, other, torch.ones(1, 1)).item() == pytest.approx(0.14384, abs=1e-5)


def test_token_logps_pick_the_target() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])  # softmax: .25, .75
    assert token_logps(logits, torch.tensor([1])).exp().item() == pytest.approx(0.75)


def test_the_tail_is_taken_after_eos_is_left_out_and_before_protected_tokens_are() -> None:
    assert tail_mask([1, 2, 3, END], 2, {END}) == [False, True, True, False]
    assert tail_mask([1, 2, 3, END], 0, {END}) == [True, True, True, False]
    assert tail_mask([1, 2, 3, END], 2, {END}, protected={3}) == [False, True, False, False]


def test_only_what_the_win_does_not_say_distinguishes_the_loser() -> None:
    # "a hammer is a bird." against "a hammer is a tool."
    assert distinguishing_mask([1, 2, 3, 4, 5, END], [1, 2, 3, 7, 5, END], {END}) == [
        False,
        False,
        False,
        True,
        False,
        False,
    ]


@given(st.lists(st.integers(0, 8), max_size=12), st.lists(st.integers(0, 8), max_size=12))
def test_a_loser_equal_to_its_win_has_nothing_to_unlearn(lose: list[int], win: list[int]) -> None:
    assert not any(distinguishing_mask(lose, lose, {END}))
    assert len(distinguishing_mask(lose, win, {END})) == len(lose)


def test_an_unknown_key_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="lambda_loose; did you mean lambda_lose"):
        preset("live", lambda_loose=0.1)


def test_a_value_out_of_range_is_refused_and_says_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"margin = 1.4 is not allowed; it must be in \[0, 1\)"):
        SpearConfig(margin=1.4)
