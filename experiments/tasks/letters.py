"""What the tasks with lettered options share: layout of the question, and choices compared by the letter's likelihood."""

from __future__ import annotations

import random
from collections.abc import Sequence

from experiments.tasks.base import BadRow, Example, Hinter, in_turn, opening_words
from experiments.tasks.hub import HubTask

LETTERS = "ABCDEFGH"
INSTRUCTIONS = "Give your reason briefly, then end with a line: Answer: <letter>"
HINT_WORDS = 3  # arXiv 2605.07977: the first three words of the right option


class LetteredTask(HubTask):
    """Questions with lettered options, from a Hub dataset."""

    instructions = INSTRUCTIONS
    short_instructions = "End with a line: Answer: <letter>"
    worked = (("Which animal can fly?\nA. dog\nB. horse\nC. eagle\nD. snail", "Answer: C"),)

    def hinter(self, example: Example, rng: random.Random) -> Hinter:
        words = opening_words(example.support[0], HINT_WORDS)
        return in_turn([f'the right option begins with "{words}"'])


def lettered(
    key: str, question: str, options: Sequence[str], gold: int, support: Sequence[str], label: str = ""
) -> Example:
    """An example whose choices are the declarations of the letters; what they share does not change their order.

    Raises:
        BadRow: where the question or an option is empty, two options are the same, or the right one is not there.
    """
    if not question.strip():
        raise BadRow("no question")
    if not 2 <= len(options) <= len(LETTERS) or not all(o.strip() for o in options):
        raise BadRow("too few or empty options")
    if len({o.strip() for o in options}) < len(options):
        raise BadRow("two options are the same")
    if not 0 <= gold < len(options):
        raise BadRow("the right option is not among the options")
    listed = "\n".join(f"{letter}. {option.strip()}" for letter, option in zip(LETTERS, options, strict=False))
    letter = LETTERS[gold]
    return Example(
        key,
        f"{question.strip()}\n{listed}\n{INSTRUCTIONS}",
        letter,
        label or letter,
        tuple(f"Answer: {x}" for x in LETTERS[: len(options)]),
        gold,
        tuple(support),
    )
