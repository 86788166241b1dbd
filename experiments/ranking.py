"""How well scores put what is right above what is not."""

from __future__ import annotations

from collections.abc import Sequence


def auc(scores: Sequence[float], truth: Sequence[bool]) -> float:
    """Share of the pairs of a right one and another in which the right one has the higher score, 0 to 1; a tie counts for it."""
    ranked = [is_right for _, is_right in sorted(zip(scores, truth, strict=True))]
    below = pairs = 0
    for is_right in ranked:
        pairs += below if is_right else 0
        below += not is_right
    return pairs / max(1, below * sum(truth))
