"""The tasks by name."""

from __future__ import annotations

from pathlib import Path

from experiments.tasks.arc_challenge import ArcChallenge
from experiments.tasks.base import BadRow, Example, Rows, Task
from experiments.tasks.hellaswag import HellaSwag
from experiments.tasks.hub import HubTask
from experiments.tasks.math_mcqa import MathMcqa
from experiments.tasks.pocket import PocketChoice, PocketMath, PocketOpen, PocketYesNo
from experiments.tasks.strategy_qa import StrategyQa

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (ArcChallenge, HellaSwag, MathMcqa, StrategyQa, PocketChoice, PocketOpen, PocketMath, PocketYesNo)
}


def make_task(name: str, data_folder: Path | None = None, worked_examples: bool = False) -> Task:
    """The task of that name. The other arguments are those of `HubTask`; pocket tasks need none."""
    kind = TASKS[name]
    return kind(data_folder, worked_examples) if issubclass(kind, HubTask) else kind()


__all__ = ["TASKS", "BadRow", "Example", "Rows", "Task", "make_task"]
