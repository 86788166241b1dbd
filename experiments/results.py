"""Complete runs read back from a folder of results, as curves and totals. No statistics, no drawing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.checkpoint import ROUNDS
from experiments.runner import DONE

FEW_ANSWERS = 10  # letters, yes and no


@dataclass(frozen=True)
class Result:
    """One complete run: its settings, the keys of its test questions, and a line a round (the first before any).

    `answers` are the right ones to the test questions; empty in older runs.
    """

    run: dict[str, Any]
    test_keys: list[str]
    lines: list[dict[str, Any]]
    answers: Sequence[str] = ()

    @property
    def name(self) -> tuple[str, str, str]:
        return self.run["study"], self.run["variant"], self.run["algorithm"]

    @property
    def seed(self) -> int:
        return int(self.run["seed"])

    @cached_property
    def measured(self) -> list[int]:
        """The rounds after which accuracy was measured; 0 is the untouched model."""
        return [i for i, line in enumerate(self.lines) if "accuracy" in line]

    @property
    def accuracy(self) -> list[float]:
        return [self.lines[i]["accuracy"] for i in self.measured]

    @property
    def right(self) -> list[float]:
        return [float(c) for c in self.lines[-1]["right"]]

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of the shares right of each answer's questions: 1/k for a model that gives one of k answers to all of them.

        Its accuracy is how often that one happens to be right. None where answers are many, as those of sums are.
        """
        shares: dict[str, list[float]] = {}
        for answer, right in zip(self.answers, self.right if self.answers else (), strict=True):
            shares.setdefault(answer, []).append(right)
        return mean(mean(rights) for rights in shares.values()) if 0 < len(shares) <= FEW_ANSWERS else None

    def per_round(self, count: str) -> list[float]:
        """Sum over the round's clients; 0 before the first round."""
        return [sum(c[count] for c in line.get("clients", {}).values()) for line in self.lines]

    def total(self, *counts: str) -> list[float]:
        """Cumulated over the rounds."""
        sums, running = [], 0.0
        for values in zip(*(self.per_round(c) for c in counts), strict=True):
            running += sum(values)
            sums.append(running)
        return sums

    @property
    def seconds(self) -> list[float]:
        """Of playing and training (`client.Counts`), clients one after another, without evaluation."""
        return self.total("play_seconds", "train_seconds")

    @property
    def needing_revision(self) -> list[float]:
        """Share of each round's prompts whose first reply was wrong; from the first round on. NaN where no client was heard."""
        wrong, prompts = self.per_round("needed_revision")[1:], self.per_round("prompts")[1:]
        return [w / p if p else nan for w, p in zip(wrong, prompts, strict=True)]

    def reached(self, accuracy: float, cost: Sequence[float]) -> float | None:
        """What it had cost when accuracy was first measured at this level or above; None where it never was."""
        return next((cost[i] for i, a in zip(self.measured, self.accuracy, strict=True) if a >= accuracy), None)


def read_results(folder: Path) -> tuple[list[Result], list[str]]:
    """(complete runs, names of the incomplete ones), sorted by name and seed."""
    results, incomplete = [], []
    for file in sorted(folder.rglob(ROUNDS)):
        done = file.with_name(DONE)
        if not done.exists():
            incomplete.append(str(file.parent.relative_to(folder)))
            continue
        said = json.loads(done.read_text(encoding="utf-8"))
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        results.append(Result(said["run"], said["test_keys"], lines, said.get("answers", ())))
    return sorted(results, key=lambda r: (*r.name, r.seed)), incomplete
