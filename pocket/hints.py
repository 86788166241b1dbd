"""Partial hints: what a person may reveal of an answer without stating it. Used by the simulated user and by pretraining.

A hint reveals at most half of the answer's characters, or a fact that does not state it (its length, a letter in it).
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

MIN_CONSISTENT = 3  # METRICS.md: every hint leaves at least three candidate answers

_PHRASES = {
    "starts": ("it starts with {v}", "starts with {v}", "begins with {v}", "it begins with {v}", 'starts with "{v}"'),
    "ends": ("it ends with {v}", "ends with {v}", "it ends in {v}", 'ends in "{v}"'),
    "length": ("it has {v} letters", "{v} letters", "a word of {v} letters"),
    "contains": ("there is a letter {v} in it", "it contains {v}", "it has the letter {v} in it"),
}


@dataclass(frozen=True)
class Clue:
    """One property of an answer: (`starts`, `to`), (`ends`, `l`), (`length`, `4`), (`contains`, `o`)."""

    kind: str
    value: str

    def fits(self, answer: str) -> bool:
        word = answer.lower()
        match self.kind:
            case "starts":
                return word.startswith(self.value)
            case "ends":
                return word.endswith(self.value)
            case "length":
                return len(word) == int(self.value)
            case _:
                return self.value in word

    def words(self, rng: random.Random) -> str:
        return rng.choice(_PHRASES[self.kind]).format(v=self.value)


def digit_hint(truth: str, said: str, told: Collection[str], rng: random.Random) -> str:
    """One digit of a number, first of all one that was said wrong: at most half of the digits of any sum from 10 up."""
    hints = [
        (("it ends in {d}", "it ends with {d}", "the last digit is {d}"), -1),
        (("it starts with {d}", "the first digit is {d}"), 0),
    ]
    if len(truth) == 3:
        hints.insert(1, (("the middle digit is {d}", "the digit in the middle is {d}"), 1))
    fresh = [(p, at) for p, at in hints if not any(phrase.format(d=truth[at]) in told for phrase in p)] or hints
    wrong = [(p, at) for p, at in fresh if len(said) != len(truth) or said[at] != truth[at]]
    phrases, at = (wrong or fresh)[0]
    return rng.choice(phrases).format(d=truth[at])


@cache
def clues_of(answer: str) -> tuple[Clue, ...]:
    """Every clue that may be given for an answer: none shows more than half of its characters (three at most)."""
    word = answer.lower()
    out = [Clue("length", str(len(word)))]
    for size in range(1, min(3, len(word) // 2) + 1):
        out += [Clue("starts", word[:size]), Clue("ends", word[-size:])]
    out += [Clue("contains", letter) for letter in sorted(set(word))]
    return tuple(out)


def consistent(candidates: tuple[str, ...], clues: list[Clue], ruled_out: Collection[str] = ()) -> list[str]:
    """The candidates that fit all the clues and have not been ruled out by a rejected reply."""
    return [c for c in candidates if c not in ruled_out and all(clue.fits(c) for clue in clues)]


def best_clue(
    candidates: tuple[str, ...],
    truth: str,
    given: list[Clue],
    ruled_out: set[str],
    rng: random.Random,
    among: tuple[str, ...] | None = None,
) -> Clue:
    """The clue that, with those already given, leaves the fewest answers (`among` the options of a choice, where given).

    Alone it leaves MIN_CONSISTENT candidates or more. Raises ValueError where no clue of the truth is vague enough.
    """
    allowed = [c for c in clues_of(truth) if c not in given and len(consistent(candidates, [c])) >= MIN_CONSISTENT]
    if not allowed:
        raise ValueError(f"no clue for {truth!r} leaves {MIN_CONSISTENT} of {len(candidates)} candidates")
    rng.shuffle(allowed)
    return min(allowed, key=lambda c: len(consistent(among or candidates, [*given, c], ruled_out)))
