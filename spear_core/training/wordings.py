"""A question in other words without another model: what it is about stays, what is said around it changes. Text only.

Trained on in several wordings, an answer hangs on what they share. Words that tell the question from its neighbours are
never left out: without "cat", "What is the name of my cat?" would teach the answer to every name that is asked for.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence

from spear_core.training.neighbours import content_words
from spear_core.training.traces import Encoded, Encoder, Messages, TrainingTrace

DROPPED = 0.5  # share of the other words that a shortened question leaves out
OPENINGS = ("Tell me: ", "Do you know: ", "I forgot: ", "Quick question: ", "Please answer. ", "Hi! ")
OF_EACH_KIND = 4
MOST_WORDS = 40  # of a question; a longer text is a task, not a question, and stays as it is
REMEMBERED = 2048  # questions whose wordings are kept encoded
_ASKED = r"(what|who|whom|where|when|why|how(?: many| much| old| often| long| far)?(?: [a-z]+)?|(?:which|what) [a-z]+)"
_INDIRECT = (("Tell me", "."), ("Do you know", "?"), ("Can you remind me", "?"), ("I forgot", "."), ("Please say", "."))
_PIECE = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]")


def rephrased(question: str) -> list[str]:
    """The question in other words by English grammar alone; empty where no rule fits."""
    text = question.strip().rstrip("?.! ")
    text = text[:1].lower() + text[1:] if text[:2] != "I " else text
    made: list[str] = []
    if m := re.match(r"what (is|are|was|were) (?:the )?name of (.+)$", text):
        made += [f"What {m[1]} {m[2]} called?", f"Which name does {m[2]} have?", f"Tell me what {m[2]} {m[1]} called."]
    if m := re.match(r"where do (i|we) (?:keep|store|put|hide|have) (.+)$", text, re.I):
        made += [f"Where is {m[2]}?", f"Where can {m[1]} find {m[2]}?", f"I am looking for {m[2]}."]
    if m := re.match(rf"{_ASKED} (is|are|was|were) (.+)$", text):
        made += [f"{lead} {m[1]} {m[3]} {m[2]}{end}" for lead, end in _INDIRECT] + [_upper(f"{m[3]} {m[2]} {m[1]}?")]
    elif m := re.match(rf"{_ASKED} (?:do|does|did) (.+)$", text):
        made += [f"{lead} {m[1]} {m[2]}{end}" for lead, end in _INDIRECT]
    return [made_one for made_one in dict.fromkeys(made) if made_one.lower() != question.lower()]


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def other_wordings(question: str, most: int) -> list[str]:
    """At most `most`: by grammar, some words left out, an opening before it, its content words alone in another order.

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
        if len(content) > 1:  # a single word asks for nothing
            made.append(" ".join(rng.sample(content, len(content))) + rng.choice(("?", "")))
    by_grammar = rephrased(question)
    by_grammar = rng.sample(by_grammar, min((most + 1) // 2, len(by_grammar)))
    different = [text for text in dict.fromkeys(made) if text != question and text not in by_grammar]
    return [*by_grammar, *rng.sample(different, min(most - len(by_grammar), len(different)))]


class Wordings:
    """Confirmed answers to their questions in other words, encoded when they are first asked for."""

    def __init__(self, encoder: Encoder, most: int) -> None:
        self.encoder = encoder
        self.most = most
        self._traces: dict[tuple[int, ...], TrainingTrace] = {}
        self._answered: Mapping[str, Sequence[tuple[Messages, str]]] = {}
        self._encoded: dict[tuple[tuple[int, ...], str], list[Encoded]] = {}

    def know(
        self,
        traces: Sequence[TrainingTrace],
        encoded: Sequence[Encoded],
        answered: Mapping[str, Sequence[tuple[Messages, str]]] | None = None,
    ) -> None:
        """Remember what the examples of a round are in words.

        `answered` gives, by the traces' keys, wordings with the model's own answers to them; they take the place of those
        that are made here with the taught answer.
        """
        self._answered = answered or {}
        self._traces = {e.prompt_ids: trace for trace, e in zip(traces, encoded, strict=True)} if self.most else {}

    def of(self, example: Encoded) -> list[Encoded]:
        """The example in its other wordings; none where it is not known in words."""
        trace = self._traces.get(example.prompt_ids)
        if trace is None:
            return []
        key = (example.prompt_ids, trace.completion)
        if own := self._answered.get(trace.key):
            key = (example.prompt_ids, json.dumps([said for _, said in own]))
        if key not in self._encoded:
            while len(self._encoded) >= REMEMBERED:
                self._encoded.pop(next(iter(self._encoded)))
            history, question = list(trace.prompt[:-1]), trace.prompt[-1]["content"]
            worded = own or [
                ([*history, {"role": "user", "content": text}], trace.completion)
                for text in other_wordings(question, self.most)
            ]
            self._encoded[key] = [
                self.encoder.plain(prompt, said, key=trace.key, confidence=trace.confidence, confirmed=trace.confirmed)
                for prompt, said in worded
            ]
        return self._encoded[key]

    def forget(self) -> None:
        """Drop every text."""
        self._traces, self._encoded, self._answered = {}, {}, {}
