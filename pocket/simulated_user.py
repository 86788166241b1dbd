"""The simulated user of METRICS.md: knows the real truths, hints partially, judges truthfully. No model."""

from __future__ import annotations

import random
import re

from pocket import wordings as w
from pocket.hints import Clue, best_clue, digit_hint
from pocket.tasks import Task


class Correction:
    """One task being corrected: remembers which clues were given and which answers were ruled out."""

    def __init__(self, task: Task, rng: random.Random) -> None:
        self.task = task
        self.rng = rng
        self.given: list[Clue] = []
        self.ruled_out: set[str] = set()
        self.told: set[str] = set()

    def hint(self, reply: str) -> str:
        """A partial hint on this wrong reply: at most half of the answer's characters, or a fact that does not state it."""
        match self.task.shape:
            case "sum":
                return self._sum_hint(reply)
            case "yesno":
                return self._fact_hint(reply)
            case _:
                return self._clue(reply)

    def _clue(self, reply: str) -> str:
        task = self.task
        self.ruled_out |= {
            c for c in task.candidates if re.search(rf"\b{re.escape(c.lower())}\b", reply.lower()) and c != task.truth
        }
        try:
            clue = best_clue(
                task.candidates, task.truth, self.given, self.ruled_out, self.rng, among=task.options or None
            )
        except ValueError:
            if not self.given:
                raise
            clue = self.rng.choice(self.given)  # all that may be said was said: the user says it again
        else:
            self.given.append(clue)
        return clue.words(self.rng)

    def _sum_hint(self, reply: str) -> str:
        numbers = re.findall(r"\d+", reply)
        hint = digit_hint(self.task.truth, numbers[-1] if numbers else "", self.told, self.rng)
        self.told.add(hint)
        return hint

    def _fact_hint(self, reply: str) -> str:
        """One of the two facts: first one that the reply got wrong and that was not told yet."""
        clauses = [w.statement(f, f.truth) for f in self.task.facts]
        wrong = [c for c in clauses if c.lower() not in reply.lower() and c not in self.told]
        left = wrong or [c for c in clauses if c not in self.told] or clauses
        clause = self.rng.choice(left)
        self.told.add(clause)
        return clause


class SimulatedUser:
    """Judges by the task's own verdict; with `noise` that share of its verdicts is flipped (noise studies only)."""

    def __init__(self, seed: int, noise: float = 0.0) -> None:
        if not 0 <= noise <= 1:
            raise ValueError(f"noise is a share in [0, 1], not {noise}")
        self.seed = seed
        self.rng = random.Random(seed)
        self.noise = noise

    def finds_right(self, task: Task, reply: str) -> bool:
        verdict = task.verdict(reply)
        return not verdict if self.rng.random() < self.noise else verdict

    def begin(self, interaction: int) -> None:
        """Draw from a stream of this interaction's own, so that a resumed study repeats exactly."""
        self.rng = random.Random(f"{self.seed}:{interaction}")

    def correct(self, task: Task) -> Correction:
        return Correction(task, self.rng)
