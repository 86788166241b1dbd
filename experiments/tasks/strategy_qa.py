"""StrategyQA (`ChilleD/StrategyQA`; Geva et al. 2021, arXiv 2101.02235): a yes or no that takes several facts."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from experiments.tasks.base import BadRow, Example, Hinter, in_turn
from experiments.tasks.hub import HubTask

INSTRUCTIONS = "Give your reason briefly, then end with a line: Answer: yes or Answer: no"


class StrategyQa(HubTask):
    """Row: qid, term, description, question, answer (a boolean), facts (a text of several sentences, or a list)."""

    name: ClassVar[str] = "strategy_qa"
    evaluation = "generation"
    hub_name = "ChilleD/StrategyQA"
    splits = ("train", "test")
    instructions = INSTRUCTIONS
    short_instructions = "End with a line: Answer: yes or Answer: no"
    worked = (("Can an eagle fly?", "Answer: yes"), ("Can a stone swim?", "Answer: no"))

    def example(self, row: Mapping[str, Any]) -> Example:
        """Raises BadRow."""
        if not isinstance(row["answer"], bool):
            raise BadRow("the answer is neither true nor false")
        facts = row["facts"]
        sentences = re.split(r"(?<=[.!?])\s+", facts.strip()) if isinstance(facts, str) else list(facts)
        sentences = [s for s in sentences if s.strip()]
        if not row["question"].strip():
            raise BadRow("no question")
        if not sentences:
            raise BadRow("no facts to hint at")
        answer = "yes" if row["answer"] else "no"
        question = f"{row['question'].strip()}\n{INSTRUCTIONS}"
        return Example(str(row["qid"]), question, answer, answer, support=tuple(sentences))

    def hinter(self, example: Example, rng: random.Random) -> Hinter:
        """Half of the facts (of a single one its first half), first to last."""
        facts = example.support
        if len(facts) == 1:
            words = facts[0].split()
            return in_turn([" ".join(words[: max(1, len(words) // 2)])])
        return in_turn([" ".join(facts[: i + 1]) for i in range(len(facts) // 2)])
