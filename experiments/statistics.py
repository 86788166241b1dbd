"""Intervals and tests as docs/METRICS.md says: bootstrap clustered by question and seed, Wilcoxon with Holm. Numbers only."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000
FEWEST_SEEDS_FOR_A_TEST = 10
TIED_DIGITS = 9
Matrix = Sequence[Sequence[float]]  # (seeds, questions)


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interval(values: Matrix, clusters: Sequence[str], seed: int = 0) -> Interval:
    """Mean over seeds and questions; seeds and clusters of questions are drawn again, with replacement.

    Args:
        values: (seeds, questions), such as right or wrong; paired differences for a comparison.
        clusters: of each question, what it shares with others (the fact that is asked).
    """
    table = np.asarray(values, dtype=float)
    names, member = np.unique(np.asarray(clusters), return_inverse=True)
    sizes = np.bincount(member)
    sums = np.zeros((len(table), len(names)))  # (seeds, clusters)
    for row, total in zip(table, sums, strict=True):
        np.add.at(total, member, row)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(DRAWS):
        rows = rng.integers(len(table), size=len(table))
        drawn = rng.integers(len(names), size=len(names))
        means.append(sums[rows][:, drawn].sum() / (len(rows) * sizes[drawn].sum()))
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(table.mean()), float(low), float(high))


def wilcoxon(differences: Sequence[float]) -> float:
    """Two-sided p-value of the signed-rank test, exact: every assignment of signs is counted. Zeros are dropped.

    Ties share their mean rank. Meant for at most 20 pairs: 2^n assignments are gone through.
    """
    rounded = [round(d, TIED_DIGITS) for d in differences]  # 0.4 - 0.3 and 0.3 - 0.2 are one difference
    values = [d for d in rounded if d != 0]
    if not values:
        return 1.0
    sizes = sorted(abs(v) for v in values)
    ranks = [(2 * sizes.index(abs(v)) + 1 + sizes.count(abs(v))) / 2 for v in values]
    half = sum(ranks) / 2
    observed = abs(sum(r for r, v in zip(ranks, values, strict=True) if v > 0) - half)
    extreme = 0
    for signs in itertools.product((0, 1), repeat=len(ranks)):
        extreme += abs(sum(r for r, s in zip(ranks, signs, strict=True) if s) - half) >= observed - 1e-9
    return float(extreme / 2 ** len(ranks))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, largest = [0.0] * len(p_values), 0.0
    for streams, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - streams) * p_values[i]))
        corrected[i] = largest
    return corrected
