"""What a task is: questions with their real answers, the verdict on a reply, and hints that do not give it away. No model."""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from spear_core.models.prompts import encode_text
from spear_core.training.traces import Messages

Hinter = Callable[[str], str]  # a wrong reply -> a partial hint; a second call gives the next one


@dataclass(frozen=True)
class Example:
    """One question.

    Attributes:
        key: the same for wordings of the same thing; intervals are clustered by it.
        question: the user's message, format instructions included.
        answer: what a right reply must declare.
        label: what the Dirichlet partition groups by.
        choices: completions to be compared by log-likelihood, of which `gold` is right; empty for tasks that are
            evaluated by generation.
        support: what hints are taken from: an option's words, facts, lines of a solution.
        source: whatever the task itself needs again.
        before: worked examples, as earlier turns of the conversation.
    """

    key: str
    question: str
    answer: str
    label: str
    choices: tuple[str, ...] = ()
    gold: int = 0
    support: tuple[str, ...] = ()
    source: Any = None
    before: tuple[tuple[str, str], ...] = ()

    @property
    def prompt(self) -> Messages:
        shown = [turn for q, a in self.before for turn in (_turn("user", q), _turn("assistant", a))]
        return [*shown, _turn("user", self.question)]


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


class BadRow(ValueError):
    """A row that cannot be used; its message is the reason under which it is counted."""


@dataclass
class Rows:
    """Examples for training and for measuring, and how many rows were unusable, by reason."""

    train: list[Example]
    test: list[Example]
    bad: Counter[str] = field(default_factory=Counter)


class Task(ABC):
    """One kind of question. Subclasses say where rows come from and what may be hinted."""

    name: ClassVar[str]
    evaluation: ClassVar[Literal["likelihood", "generation"]]
    # never pushed down: the marker of the answer, in its tokenisations (arXiv 2605.07977: the mask of L_lose)
    protected: ClassVar[tuple[str, ...]] = ("Answer:", " Answer:", "\nAnswer:")

    @abstractmethod
    def load(self, most_train: int, most_test: int, seed: int) -> Rows:
        """At most so many examples of each. Raises DataUnavailable where they cannot be had."""

    @abstractmethod
    def hinter(self, example: Example, rng: random.Random) -> Hinter:
        """Partial hints on one example: never the answer itself."""

    def extract(self, reply: str) -> str | None:
        """The last declared answer, or None."""
        declared = re.findall(r"answer:\s*\**\(?([\w-]+)", reply, flags=re.IGNORECASE)
        return declared[-1] if declared else None

    def right(self, example: Example, reply: str) -> bool:
        found = self.extract(reply)
        return found is not None and found.lower() == example.answer.lower()

    def privileged(self, example: Example) -> str:
        """What a teacher is told who knows everything (OPSD)."""
        return " ".join([*example.support, f"The right answer is {example.answer}."])

    def protected_ids(self, tokenizer: Any) -> frozenset[int]:
        return frozenset(token for text in self.protected for token in encode_text(tokenizer, text))


def read_rows(rows: Iterable[Any], read: Callable[[Any], Example], most: int, bad: Counter[str]) -> list[Example]:
    """The first `most` usable rows; the unusable ones before them are counted by reason."""
    examples: list[Example] = []
    for row in rows:
        if len(examples) == most:
            break
        try:
            examples.append(read(row))
        except BadRow as e:
            bad[str(e)] += 1
        except (KeyError, TypeError, IndexError, AttributeError) as e:
            bad[f"a field is missing or of another kind ({type(e).__name__})"] += 1
    return examples


def opening_words(text: str, count: int) -> str:
    """The first words, at most `count` and at most half of them, so that the whole is never shown."""
    words = text.split()
    return " ".join(words[: max(1, min(count, len(words) // 2))]) if len(words) > 1 else text[: len(text) // 2]


def in_turn(hints: Sequence[str]) -> Hinter:
    """A hinter that gives these one after another, the last again and again."""
    given = iter(hints)
    last = hints[-1]
    return lambda reply: next(given, last)
