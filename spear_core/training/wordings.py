"""A question in other words without another model: what it is about stays, what is said around it changes. Text only.

Trained on in several wordings, an answer hangs on what they share. Words that tell the question from its neighbours are
never left out: without "cat", "What is the name of my cat?" would teach the answer to every name that is asked for.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from spear_core.training.neighbours import content_words
from spear_core.training.traces import Encoded, Encoder, Trace

DROPPED = 0.5  # share of the other words that a shortened question leaves out
OPENINGS = ("Tell me: ", "Do you know: ", "I forgot: ", "Quick question: ", "Please answer. ", "Hi! ")
OF_EACH_KIND = 4
MOST_WORDS = 40  # of a question; a longer text is a task, not a question, and stays as it is
REMEMBERED = 2048  # questions whose wordings are kept encoded
_PIECE = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]")


def other_wordings(question: str, most: int) -> list[str]:
    """At most `most`: some words left out, an opening before it, its content words alone in another order.

    The same question gives the same wordings.
    """
    pieces = _PIECE.findall(question)
    content = [p for p in pieces if content_words(p)]
    if not content or len(pieces) > MOST_WORDS:
        return []
    rng = random.Random(question)
    made: list[str] = []
    for opening in rng.sample(OPENINGS, OF_EACH_KIND):
        made.append(" ".join(p for p in pieces if content_words(p) or rng.random() >= DROPPED))
        made.append(opening + question)
        shuffled = rng.sample(content, len(content))
        made.append(" ".join(shuffled) + rng.choice(("?", "")))
    different = [text for text in dict.fromkeys(made) if text != question]
    return rng.sample(different, min(most, len(different)))


class Wordings:
    """Confirmed answers to their questions in other words, encoded when they are first asked for."""

    def __init__(self, encoder: Encoder, most: int) -> None:
        self.encoder = encoder
        self.most = most
        self._traces: dict[tuple[int, ...], Trace] = {}
        self._encoded: dict[tuple[tuple[int, ...], str], list[Encoded]] = {}

    def know(self, traces: Sequence[Trace], encoded: Sequence[Encoded]) -> None:
        """Remember what the examples of a round are in words."""
        self._traces = {e.prompt_ids: trace for trace, e in zip(traces, encoded, strict=True)} if self.most else {}

    def of(self, example: Encoded) -> list[Encoded]:
        """The example in its other wordings; none where it is not known in words."""
        trace = self._traces.get(example.prompt_ids)
        if trace is None:
            return []
        key = (example.prompt_ids, trace.completion)
        if key not in self._encoded:
            while len(self._encoded) >= REMEMBERED:
                self._encoded.pop(next(iter(self._encoded)))
            history, question = list(trace.prompt[:-1]), trace.prompt[-1]["content"]
            self._encoded[key] = [
                self.encoder.plain(
                    [*history, {"role": "user", "content": text}],
                    trace.completion,
                    key=trace.key,
                    confidence=trace.confidence,
                    confirmed=trace.confirmed,
                )
                for text in other_wordings(question, self.most)
            ]
        return self._encoded[key]

    def forget(self) -> None:
        """Drop every text."""
        self._traces, self._encoded = {}, {}
