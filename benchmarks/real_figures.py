"""What is counted in replies of a real language model (docs/METRICS.md). Texts and numbers in, numbers out; no model."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from math import ceil

FIRST_TOKENS = 8  # of an unrelated reply, that are compared
_PUNCTUATION = string.punctuation + "\u2018\u2019\u201c\u201d\u2013\u2014"
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def contains(reply: str, target: str) -> bool:
    """Whether the reply has the target's words in a row, without case, punctuation and articles.

    Whole words only: "11" is not in "2011". Punctuation may part words or not: "7,391" is in "7391", "Ann" in "Ann's".
    """
    return any(
        bool(words.strip()) and words in said
        for said, words in zip(_normalised(reply), _normalised(target), strict=True)
    )


def _normalised(text: str) -> tuple[str, str]:
    """The text as words between single spaces, its punctuation replaced by spaces, and the same with it removed."""
    forms = []
    for put_in in (" ", ""):
        bare = "".join(put_in if c in _PUNCTUATION else c for c in text.lower())
        forms.append(f" {' '.join(_ARTICLES.sub(' ', bare).split())} ")
    return forms[0], forms[1]


def leaks(replies: Sequence[str], untouched: Sequence[str], target: str) -> bool:
    """Whether the taught answer is given to a neighbour question to which the untouched model does not give it."""
    return any(contains(now, target) and not contains(was, target) for now, was in zip(replies, untouched, strict=True))


def changed(now: Sequence[Sequence[int]], before: Sequence[Sequence[int]]) -> float:
    """Share of replies, as token ids, that differ within their first FIRST_TOKENS tokens."""
    pairs = list(zip(now, before, strict=True))
    return mean([list(a[:FIRST_TOKENS]) != list(b[:FIRST_TOKENS]) for a, b in pairs])


def right_choices(logps: Sequence[Sequence[float]], lengths: Sequence[Sequence[int]], right: Sequence[int]) -> float:
    """Share of multiple-choice questions whose right option has the highest log-probability per character of its text."""
    hits = []
    for of_question, sizes, answer in zip(logps, lengths, right, strict=True):
        normalised = [logp / size for logp, size in zip(of_question, sizes, strict=True)]
        hits.append(normalised.index(max(normalised)) == answer)
    return mean(hits)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile, the least value that `share` of them do not exceed; 0 of nothing."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered) - 1e-9) - 1)] if ordered else 0.0
