"""The retrieval baseline: the confirmed corrections most similar to a question go into the prompt; nothing is trained.

Similarity is BM25 (Robertson and Zaragoza, 2009) over the words of the corrected questions.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from benchmarks.real_corrections import Correction

K1, B = 1.5, 0.75
NEAREST = 2
_WORD = re.compile(r"\w+")


class Memory:
    """Corrections, found by the words of their question."""

    def __init__(self, corrections: Sequence[Correction]) -> None:
        self.corrections = list(corrections)
        self._documents = [Counter(words(c.question)) for c in corrections]
        self._mean_length = sum(d.total() for d in self._documents) / max(1, len(self._documents))
        self._containing = Counter(word for d in self._documents for word in d)

    def nearest(self, question: str, count: int = NEAREST) -> list[Correction]:
        """The most similar corrections, the best last; none that shares no word with the question."""
        asked = set(words(question))
        scored = [(self._score(asked, document), i) for i, document in enumerate(self._documents)]
        best = sorted((s for s in scored if s[0] > 0), key=lambda s: (-s[0], s[1]))[:count]
        return [self.corrections[i] for _, i in reversed(best)]

    def prompt(self, question: str) -> list[dict[str, str]]:
        """The question as a chat message, with what was corrected before it."""
        known = [f"Question: {c.question}\nAnswer: {c.answer}" for c in self.nearest(question)]
        content = "\n\n".join([*known, f"Question: {question}\nAnswer:"]) if known else question
        return [{"role": "user", "content": content}]

    def _score(self, asked: set[str], document: Counter[str]) -> float:
        length = document.total() / self._mean_length if self._mean_length else 1.0
        return sum(
            self._rarity(word) * document[word] * (K1 + 1) / (document[word] + K1 * (1 - B + B * length))
            for word in asked
            if word in document
        )

    def _rarity(self, word: str) -> float:
        containing = self._containing[word]
        return math.log(1 + (len(self._documents) - containing + 0.5) / (containing + 0.5))


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
