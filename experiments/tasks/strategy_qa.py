"""StrategyQA (`ChilleD/StrategyQA`; Geva et al. 2021, arXiv 2101.02235): a yes or no that takes several facts."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from experiments.tasks.base import BadRow, Example, Hinter, Rows, Task, in_turn, read_rows
from experiments.tasks.hub import hub_rows

INSTRUCTIONS = "Give your reason briefly, then end with a line: Answer: yes or Answer: no"


class StrategyQa(Task):
    """Row: qid, term, description, question, answer (a boolean), facts (a text of several sentences, or a list)."""

    name: ClassVar[str] = "strategy_qa"
    evaluation = "generation"

    def load(self, most_train: int, most_test: int, seed: int) -> Rows:
        train, test = (hub_rows("ChilleD/StrategyQA", split) for split in ("train", "test"))
        return self.read(train, test, most_train, most_test)

    def read(
        self, train: Iterable[Mapping[str, Any]], test: Iterable[Mapping[str, Any]], most_train: int, most_test: int
    ) -> Rows:
        bad: Counter[str] = Counter()
        return Rows(read_rows(train, self.example, most_train, bad), read_rows(test, self.example, most_test, bad), bad)

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
