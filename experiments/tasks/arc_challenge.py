"""ARC-Challenge (`allenai/ai2_arc`; Clark et al. 2018, arXiv 1803.05457): school science with options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from experiments.tasks.base import BadRow, Example
from experiments.tasks.letters import LetteredTask, lettered


class ArcChallenge(LetteredTask):
    """Row: id, question, choices {text: [...], label: [...]}, answerKey. Labels are letters or, in some rows, digits."""

    name: ClassVar[str] = "arc_challenge"
    evaluation = "likelihood"
    hub_name = "allenai/ai2_arc"
    hub_configuration = "ARC-Challenge"
    splits = ("train", "test")

    def example(self, row: Mapping[str, Any]) -> Example:
        labels, texts = list(row["choices"]["label"]), list(row["choices"]["text"])
        if row["answerKey"] not in labels:
            raise BadRow("the right option is not among the options")
        gold = labels.index(row["answerKey"])
        return lettered(str(row["id"]), row["question"], texts, gold, [texts[gold]])
