"""SPEAR's self-play as published: answer, verdict, partial feedback, revise; wins and losing traces come out. No training.

arXiv 2605.07977, one client round, steps 1 to 4. In the app the person plays the verdict and the feedback; here they
are functions, which is what the paper's evaluation and the parity figures need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from spear_core.training.traces import Messages, TrainingTrace

Task = TypeVar("Task")
UNFIXED_CONFIDENCE = 0.5


def play(
    tasks: Sequence[Task],
    prompt: Callable[[Task], Messages],
    answer: Callable[[Task, Sequence[tuple[str, str]]], str],
    is_right: Callable[[Task, str], bool],
    feedback: Callable[[Task, str], str],
    num_revisions: int,
) -> tuple[list[TrainingTrace], list[TrainingTrace]]:
    """(wins, losing traces). `answer` sees the task and the earlier (reply, hint) pairs of this task.

    Right at once: a win. Fixed in a revision: that revision a win and the first answer a losing trace of confidence 1.
    Never fixed: the first answer a losing trace of confidence 0.5. Both sides keep the original prompt: no hint in it.
    """
    wins: list[TrainingTrace] = []
    loses: list[TrainingTrace] = []
    for task in tasks:
        first = answer(task, ())
        if is_right(task, first):
            wins.append(TrainingTrace("win", prompt(task), first))
            continue
        attempts: list[tuple[str, str]] = []
        last = first
        for _ in range(num_revisions):
            attempts.append((last, feedback(task, last)))
            last = answer(task, attempts)
            if is_right(task, last):
                wins.append(TrainingTrace("win", prompt(task), last))
                loses.append(TrainingTrace("lose", prompt(task), first, 1.0))
                break
        else:
            loses.append(TrainingTrace("lose", prompt(task), first, UNFIXED_CONFIDENCE))
    return wins, loses
