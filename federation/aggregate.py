"""Aggregates many adapters into one, tensor by tensor, so that memory holds at most one tensor of every peer.

What PEFT calls a linear combination with weights 1/k is not used: it multiplies A and B by the square root of each
weight and adds them up, and the product then comes out about k times too large where the adapters agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

import torch
from torch import Tensor

from federation.aggregation_plan import (
    Contribution,
    MergeSettings,
    Method,
    Parent,
    check_contributions,
    coefficients_of,
    weights_of,
)
from federation.factors import pairs_of
from federation.low_rank_products import low_rank_sum, product_norm
from federation.robust_statistics import trimmed_mean

AdapterState = dict[str, Tensor]


@dataclass(frozen=True)
class Merged:
    """An adapter made of several, and how it came about.

    Attributes:
        state: float32 tensors under the contributions' names.
        weights: each peer's share; 0 for one without wins. `median` and `trimmed_mean` know only in or out.
        kept: what clipping left of each peer's difference, 1.0 where it left all; only of peers with a share.
        residual: for `exact`, the part of the sought product that rank r cannot hold, relative to the product
            (Frobenius norms over all layers); None for the other methods.
    """

    state: AdapterState
    method: Method
    weights: dict[str, float]
    kept: dict[str, float]
    residual: float | None


def aggregate(contributions: Sequence[Contribution], settings: MergeSettings, parent: Parent | None = None) -> Merged:
    """Merge adapters of the same names, shapes and alpha / r.

    With w the shares, P the parent and X the factors A and B, each for itself:

    - `fedavg`: P + scale * sum_i w_i (X_i - P); without a parent sum_i w_i X_i.
    - `exact`: the same with X = BA, brought back to rank r as well as can be (Eckart and Young).
    - `median`, `trimmed_mean`: P + scale * statistic(X_i - P), entry by entry. The factors of unrelated adapters cannot
      be compared entry by entry, for (BQ)(Q^-1 A) is the same adapter for every Q; those of one parent that moved a
      little can. So all must name this parent. A weight is what a liar would lie about, hence none.

    Clipping measures each difference in the space that is averaged: of the products for `exact`, else of the factors.

    Raises:
        MergeImpossible: for unlike adapters, no wins at all, or a parent that is missing or not common.
    """
    check_contributions(contributions, parent, settings)
    everyone = sorted(contributions, key=lambda c: c.peer)
    shares = weights_of([c.wins for c in everyone], settings.max_wins)
    voices = [(c, w) for c, w in zip(everyone, shares, strict=True) if w > 0]
    states, weights = [c.tensors for c, _ in voices], [w for _, w in voices]
    kept = _kept(states, settings, parent)
    if settings.method in ("median", "trimmed_mean"):
        assert parent is not None  # check_contributions
        share = settings.trim if settings.method == "trimmed_mean" else 0.5
        state, residual = _robust(states, parent.tensors, kept, settings.scale, share), None
    else:
        rest, each = coefficients_of(weights, kept, settings.scale)
        if parent is not None and rest != 0.0:
            states, each = [*states, parent.tensors], [*each, rest]
        if settings.method == "exact":
            state, residual = _exact(states, each)
        else:
            state, residual = _fedavg(states, each), None
    return Merged(
        state=state,
        method=settings.method,
        weights={c.peer: w for c, w in zip(everyone, shares, strict=True)},
        kept={c.peer: k for (c, _), k in zip(voices, kept, strict=True)},
        residual=residual,
    )


def _fedavg(states: Sequence[Mapping[str, Tensor]], coefficients: Sequence[float]) -> AdapterState:
    merged: AdapterState = {}
    for name in states[0]:
        total = torch.zeros(states[0][name].shape)
        for state, coefficient in zip(states, coefficients, strict=True):
            total.add_(state[name].to(torch.float32), alpha=coefficient)
        merged[name] = total
    return merged


def _exact(states: Sequence[Mapping[str, Tensor]], coefficients: Sequence[float]) -> tuple[AdapterState, float]:
    if len(states) == 1 and coefficients[0] == 1.0:  # already of rank r: give it back as it is
        return {name: states[0][name].to(torch.float32, copy=True) for name in states[0]}, 0.0
    merged: AdapterState = {}
    lost, whole = 0.0, 0.0
    for name_a, name_b in pairs_of(states[0]):
        result = low_rank_sum([s[name_b] for s in states], [s[name_a] for s in states], coefficients)
        merged[name_a], merged[name_b] = result.a, result.b
        lost, whole = lost + result.residual_square, whole + result.square
    return merged, math.sqrt(lost / whole) if whole > 0 else 0.0


def _robust(
    states: Sequence[Mapping[str, Tensor]],
    parent: Mapping[str, Tensor],
    kept: Sequence[float],
    scale: float,
    share: float,
) -> AdapterState:
    merged: AdapterState = {}
    for name in parent:
        origin = parent[name].to(torch.float32)
        differences = torch.stack([(s[name] - origin).mul_(k) for s, k in zip(states, kept, strict=True)])  # (k, ., .)
        merged[name] = origin + scale * trimmed_mean(differences, share)
    return merged


def _kept(states: Sequence[Mapping[str, Tensor]], settings: MergeSettings, parent: Parent | None) -> list[float]:
    """What to multiply each difference by, so that none is longer than `clip` times the median one.

    Of an even number the lower middle: with two peers, of which one is a thousand times too large, the other counts.
    """
    if settings.clip is None or parent is None:
        return [1.0] * len(states)
    measure = _product_distance if settings.method == "exact" else _factor_distance
    lengths = [measure(state, parent.tensors) for state in states]
    moved = [length for length in lengths if length > 0]  # who stood still says nothing about how long a move is
    if not moved:
        return [1.0] * len(states)
    bound = settings.clip * median_low(moved)
    return [bound / length if length > bound else 1.0 for length in lengths]


def _factor_distance(state: Mapping[str, Tensor], parent: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float((state[n].float() - parent[n].float()).square_().sum()) for n in parent))


def _product_distance(state: Mapping[str, Tensor], parent: Mapping[str, Tensor]) -> float:
    """Norm of BA - B_P A_P over all layers."""
    squares = (
        product_norm([state[b], parent[b]], [state[a], parent[a]], [1.0, -1.0]) ** 2 for a, b in pairs_of(parent)
    )
    return math.sqrt(sum(squares))
