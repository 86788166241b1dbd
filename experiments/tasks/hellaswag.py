"""HellaSwag (`Rowan/hellaswag`; Zellers et al. 2019, arXiv 1905.07830): which ending is plausible?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from experiments.tasks.base import BadRow, Example
from experiments.tasks.letters import LetteredTask, lettered


class HellaSwag(LetteredTask):
    """Row: ind, activity_label, ctx, endings [4], label ("0" to "3"; empty in the test split, so validation measures)."""

    name: ClassVar[str] = "hellaswag"
    evaluation = "likelihood"
    hub_name = "Rowan/hellaswag"
    splits = ("train", "validation")

    def example(self, row: Mapping[str, Any]) -> Example:
        if not str(row["label"]).isdigit():
            raise BadRow("no label")
        gold, endings = int(row["label"]), [_plain(e) for e in row["endings"]]
        context = _plain(f"{row['activity_label']}: {row['ctx']}")
        question = f"Which ending fits?\n{context}"
        support = [endings[gold]] if gold < len(endings) else []
        return lettered(str(row["ind"]), question, endings, gold, support)


def _plain(text: str) -> str:
    """Without WikiHow's marks ("[header]", "[step]") and doubled spaces, as the lm-evaluation-harness does it."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\s+", " ", re.sub(r"\[.*?\]", "", text)).strip()
