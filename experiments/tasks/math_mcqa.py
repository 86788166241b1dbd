"""MATH with options (`stellaathena/math_mcqa`, made from Hendrycks et al. 2021, arXiv 2103.03874)."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from experiments.tasks.base import BadRow, Example, Hinter, in_turn
from experiments.tasks.letters import LetteredTask, lettered

HINT_SHARE = 0.5  # of the solution's sentences


class MathMcqa(LetteredTask):
    """Row: problem, choices [4], answer (0 to 3), solution, level, type. Hints open the solution, without its result."""

    name: ClassVar[str] = "math_mcqa"
    evaluation = "generation"
    hub_name = "stellaathena/math_mcqa"
    splits = ("train", "test")
    # what every solution writes is not what was wrong with one
    protected = (*LetteredTask.protected, "=", " =", "+", " +", "-", " -", "\\", "$", " $", "\\frac", "\\boxed")

    def example(self, row: Mapping[str, Any]) -> Example:
        options, gold = [str(choice) for choice in row["choices"]], int(row["answer"])
        if not 0 <= gold < len(options):
            raise BadRow("the right option is not among the options")
        steps = _steps(str(row["solution"]), options[gold])
        if not steps:
            raise BadRow("no step of the solution may be shown")
        return lettered(row["problem"], row["problem"], options, gold, steps)

    def hinter(self, example: Example, rng: random.Random) -> Hinter:
        most = max(1, int(HINT_SHARE * len(example.support)))
        return in_turn([" ".join(example.support[: i + 1]) for i in range(most)])


def _steps(solution: str, result: str) -> list[str]:
    """The solution's sentences up to the first that gives the result away."""
    kept: list[str] = []
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", solution.strip()):
        if "\\boxed" in sentence or (result.strip() and result.strip().strip("$") in sentence):
            break
        kept += [sentence.strip()] if sentence.strip() else []
    return kept
