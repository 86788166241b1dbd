"""The figures of the model card: how much a model knows of the pocket world, and how well it follows hints. No loading."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pocket.corpus import REVISE_WITH_HINT
from pocket.simulated_user import SimulatedUser
from pocket.tasks import SHAPES, Task, draw_task, open_task
from pocket.wordings import HELD_OUT, OPEN, sum_answer
from pocket.world import load_world

FEW_FAILURES = 30
Conversation = list[dict[str, str]]
Answer = Callable[[Sequence[Conversation]], list[str]]


@dataclass(frozen=True)
class Figures:
    """Shares in [0, 1] per shape, with the number of tasks each is taken from."""

    known: dict[str, float]
    half_known: dict[str, float]
    revision_success: dict[str, float]
    first_failures: dict[str, int]
    planted_slips: dict[str, int]  # wrong replies made up for a shape that has too few of its own; not in `overall`
    tasks_a_shape: int

    @property
    def overall(self) -> dict[str, float]:
        failures = sum(self.first_failures.values())
        fixed = sum(self.revision_success[s] * n for s, n in self.first_failures.items())
        return {
            "known": sum(self.known.values()) / len(self.known),
            "revision_success": fixed / failures if failures else 0.0,
        }


def ask(question: str) -> Conversation:
    return [{"role": "user", "content": question}]


def distinct_tasks(shape: str, count: int, seed: int, *, half_known: bool, held_out: bool = True) -> list[Task]:
    """Up to `count` tasks with different questions (fewer where the world has no more)."""
    world, rng = load_world(), random.Random(seed)
    seen: dict[str, Task] = {}
    for _ in range(count * 20):
        task = draw_task(world, shape, rng, held_out=held_out, half_known=half_known)
        seen.setdefault(task.question, task)
        if len(seen) == count:
            break
    return list(seen.values())


def revise_all(
    tasks: Sequence[Task], replies: Sequence[str], answer: Answer, seed: int, num_revisions: int
) -> list[bool]:
    """Let the simulated user correct wrong replies with partial hints; True where a revision came out right."""
    user = SimulatedUser(seed)
    corrections = [user.correct(t) for t in tasks]
    conversations = [ask(t.question) for t in tasks]
    last, right = list(replies), [False] * len(tasks)
    for _ in range(num_revisions):
        open_ones = [i for i, done in enumerate(right) if not done]
        for i in open_ones:
            hint = corrections[i].hint(last[i])
            conversations[i] = [
                *conversations[i],
                {"role": "assistant", "content": last[i]},
                {"role": "user", "content": REVISE_WITH_HINT.replace("{hint}", hint)},
            ]
        for i, reply in zip(open_ones, answer([conversations[i] for i in open_ones]), strict=True):
            last[i] = reply
            right[i] = user.finds_right(tasks[i], reply)
    return right


def planted_slip(task: Task) -> str:
    """The working of a sum with its second digit sum one too high: a wrong reply in the model's own words."""
    a, b = (int(number) for number in re.findall(r"\d+", task.question))
    return sum_answer(a, b, tens=(a + b) // 10 + 1)


def evaluate(answer: Answer, tasks_a_shape: int = 200, seed: int = 7, num_revisions: int = 2) -> Figures:
    """Known facts and half-known facts on held-out wordings, greedy; revisions of the first failures of both.

    A model that adds well has no failures to revise: with fewer than FEW_FAILURES sums wrong of its own, `revision_success`
    of sums is taken from workings with one planted slip instead, and says so.
    """
    known: dict[str, float] = {}
    half: dict[str, float] = {}
    success: dict[str, float] = {}
    failures: dict[str, int] = {}
    planted: dict[str, int] = {}
    for shape in SHAPES:
        tasks = distinct_tasks(shape, tasks_a_shape, seed, half_known=False)
        replies = answer([ask(t.question) for t in tasks])
        verdicts = [t.verdict(r) for t, r in zip(tasks, replies, strict=True)]
        known[shape] = sum(verdicts) / len(verdicts)
        wrong = [(t, r) for t, r, v in zip(tasks, replies, verdicts, strict=True) if not v]
        more = distinct_tasks(shape, tasks_a_shape * (4 if shape == "sum" else 1), seed + 1, half_known=True)
        replies = answer([ask(t.question) for t in more])
        verdicts = [t.verdict(r) for t, r in zip(more, replies, strict=True)]
        half[shape] = sum(verdicts) / len(verdicts)
        wrong += [(t, r) for t, r, v in zip(more, replies, verdicts, strict=True) if not v]
        failures[shape] = len(wrong)
        if shape == "sum" and len(wrong) < FEW_FAILURES:
            wrong = [(t, planted_slip(t)) for t in tasks]
            planted[shape] = len(wrong)
        fixed = revise_all([t for t, _ in wrong], [r for _, r in wrong], answer, seed, num_revisions)
        success[shape] = sum(fixed) / len(fixed) if fixed else 1.0
    del half["sum"]  # sums have no half-known facts
    return Figures(known, half, success, failures, planted, tasks_a_shape)


def retention_questions(seed: int = 11) -> list[Task]:
    """At least 500 questions on known facts in held-out wordings (METRICS.md): every open one, then other shapes."""
    world = load_world()
    tasks = [
        open_task(world, f, wording)
        for f in world.facts
        if not f.half_known
        for wording in OPEN[f.relation][-HELD_OUT:]
    ]
    for shape in ("choice", "sum", "yesno"):
        tasks += distinct_tasks(shape, 60, seed, half_known=False)
    return tasks
