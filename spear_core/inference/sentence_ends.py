"""Where a sentence ends: not after a title or an initial ("Dr. Meier", "J. S. Bach"). Patterns only."""

from __future__ import annotations

import re

_TITLES = ("Dr", "Mr", "Mrs", "Ms", "Prof", "St", "Jr", "Sr")
# For a pattern, directly behind its full stop. "I." is no initial.
NOT_ABBREVIATED = "".join(rf"(?<!\b{title}\.)" for title in _TITLES) + r"(?<!\b(?-i:[A-HJ-Z])\.)"
FULL_STOP = rf"\.{NOT_ABBREVIATED}(?!(?<=\bno\.)\s+\d)"  # nor after "No. 5"; for a pattern
# In a hint: what ends its first sentence, or its first clause, where more follows
FURTHER_SENTENCE = re.compile(rf"(?:{FULL_STOP}|[!;])\s", re.I)
FURTHER_CLAUSE = re.compile(rf"(?:{FULL_STOP}|[!;,:–—-])\s", re.I)
SENTENCE_END = re.compile(rf"[?!]|\.{NOT_ABBREVIATED}(?=\s|$)")
NEXT_SENTENCE = re.compile(rf"[.!;]{NOT_ABBREVIATED}\s+\w")
