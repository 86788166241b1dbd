"""The pocket versions of the paper's four tasks, on the pocket world. Offline, and small enough for two CPU cores.

Each is evaluated as its original is. Facts of the world are arbitrary, so what one question teaches shows only on the same
fact: the test asks the training facts in wordings that are never trained on. Sums are different: there the test has
other numbers, and what is learned is to find them in an unfamiliar question.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from typing import ClassVar

from experiments.tasks.base import Example, Hinter, Rows, Task
from pocket import tasks as world_tasks
from pocket import wordings as w
from pocket.hints import best_clue
from pocket.simulated_user import Correction
from pocket.world import Fact, World, load_world

HALF_KNOWN_SHARE = 0.75  # of the facts; the others are known, and may be forgotten
WORDINGS_A_FACT = 2  # in training
CHOICES = 4
# the pocket model adds well, but has never seen sums asked like these
SUM_WORDINGS = (
    "Choose from {options}: what is {a} + {b}?",
    "{options}: what is {a} + {b}?",
    "What is {a} + {b}, {options}?",
    "{a} and {b}, what is the sum: {options}?",
)


class PocketTask(Task):
    """Verdict and hints are those of the pocket world's simulated user."""

    def hinter(self, example: Example, rng: random.Random) -> Hinter:
        return Correction(example.source, rng).hint

    def right(self, example: Example, reply: str) -> bool:
        return bool(example.source.verdict(reply))

    def privileged(self, example: Example) -> str:
        return str(example.source.answer)


class FactTask(PocketTask):
    """Questions about one fact each: trained in some wordings, tested in others."""

    def load(self, most_train: int, most_test: int, seed: int) -> Rows:
        rng, world = random.Random(seed), load_world()
        facts = self._facts(world, -(-most_train // WORDINGS_A_FACT), rng)
        train = [self.example(world, f, rng, held_out=False) for f in facts for _ in range(WORDINGS_A_FACT)]
        test = [self.example(world, f, rng, held_out=True) for f in facts]
        rng.shuffle(train)
        while len(test) < most_test:
            test += [self.example(world, f, rng, held_out=True) for f in facts[: most_test - len(test)]]
        return Rows(train[:most_train], rng.sample(test, most_test))

    def _facts(self, world: World, count: int, rng: random.Random) -> list[Fact]:
        """Facts that a partial hint can be given on, half-known and known ones."""
        chosen: list[Fact] = []
        for half_known, share in ((True, HALF_KNOWN_SHARE), (False, 1 - HALF_KNOWN_SHARE)):
            usable = [f for f in world.facts if f.half_known == half_known and self.usable(world, f)]
            chosen += rng.sample(usable, min(len(usable), round(share * count)))
        rng.shuffle(chosen)
        return chosen

    def usable(self, world: World, fact: Fact) -> bool:
        try:
            best_clue(world.candidates[fact.relation], fact.truth, [], set(), random.Random(0))
        except ValueError:
            return False
        return True

    @abstractmethod
    def example(self, world: World, fact: Fact, rng: random.Random, *, held_out: bool) -> Example:
        """A question about a fact, in one of the wordings for training or of those held out."""


class PocketChoice(FactTask):
    """Twin of ARC-Challenge: four options in the question, evaluated by log-likelihood."""

    name: ClassVar[str] = "pocket_choice"
    evaluation = "likelihood"

    def example(self, world: World, fact: Fact, rng: random.Random, *, held_out: bool) -> Example:
        task = world_tasks.choice_task(world, fact, rng, held_out)
        choices = tuple(w.choice_answer(fact, option) for option in task.options)
        gold = task.options.index(task.truth)
        return Example(fact.key, task.question, task.truth, task.truth, choices, gold, source=task)


class PocketOpen(FactTask):
    """Twin of HellaSwag: a sentence to be completed, four endings compared by log-likelihood, none in the question."""

    name: ClassVar[str] = "pocket_open"
    evaluation = "likelihood"

    def example(self, world: World, fact: Fact, rng: random.Random, *, held_out: bool) -> Example:
        task = world_tasks.open_task(world, fact, rng.choice(w.split(w.OPEN[fact.relation], held_out)))
        others = [c for c in task.candidates if c != task.truth]
        endings = [*rng.sample(others, CHOICES - 1), task.truth]
        rng.shuffle(endings)
        choices = tuple(w.open_answer(fact, ending) for ending in endings)
        return Example(fact.key, task.question, task.truth, task.truth, choices, endings.index(task.truth), source=task)


class PocketYesNo(PocketTask):
    """Twin of StrategyQA: a yes or no that takes two facts, of which a hint tells one; evaluated by generation."""

    name: ClassVar[str] = "pocket_yesno"
    evaluation = "generation"

    def load(self, most_train: int, most_test: int, seed: int) -> Rows:
        rng, world = random.Random(seed), load_world()
        train: list[Example] = []
        test: list[Example] = []
        seen: set[frozenset[str]] = set()
        while len(train) < most_train or len(test) < most_test:
            half_known = rng.random() < HALF_KNOWN_SHARE
            task = world_tasks.draw_task(world, "yesno", rng, held_out=False, half_known=half_known)
            pair = frozenset(f.key for f in task.facts)
            if pair not in seen:
                seen.add(pair)
                for _ in range(WORDINGS_A_FACT):
                    train.append(self._pair(world, task, rng, held_out=False))
                test.append(self._pair(world, task, rng, held_out=True))
        train = train[:most_train]
        rng.shuffle(train)
        return Rows(train, test[:most_test])

    def _pair(self, world: World, task: world_tasks.Task, rng: random.Random, *, held_out: bool) -> Example:
        first, second = task.facts
        asked = world_tasks.same_task(world, first, second, rng, held_out)
        key = "|".join(sorted(f.key for f in task.facts))
        return Example(key, asked.question, asked.truth, asked.truth, source=asked)


class PocketMath(PocketTask):
    """Twin of MATH-MCQA: sums with four options in unfamiliar wordings; other sums in the test; by generation."""

    name: ClassVar[str] = "pocket_math"
    evaluation = "generation"

    def load(self, most_train: int, most_test: int, seed: int) -> Rows:
        rng = random.Random(seed)
        pairs = rng.sample([(a, b) for a in range(10, 100) for b in range(10, 100)], most_train + most_test)
        examples = [self._sum(a, b, rng) for a, b in pairs]
        return Rows(examples[:most_train], examples[most_train:])

    def _sum(self, a: int, b: int, rng: random.Random) -> Example:
        near = [a + b + off for off in (-10, -9, -1, 1, 9, 10)]
        options = [str(o) for o in [*rng.sample(near, CHOICES - 1), a + b]]
        rng.shuffle(options)
        listed = f"{', '.join(options[:-1])} or {options[-1]}"
        question = rng.choice(SUM_WORDINGS).format(a=a, b=b, options=listed)
        task = world_tasks.Task("sum", question, str(a + b), w.sum_answer(a, b))
        return Example(f"{a}+{b}", question, task.truth, f"{(a + b) // 20}", source=task)
