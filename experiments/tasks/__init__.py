"""The tasks by name."""

from __future__ import annotations

from experiments.tasks.arc_challenge import ArcChallenge
from experiments.tasks.base import BadRow, Example, Rows, Task
from experiments.tasks.hellaswag import HellaSwag
from experiments.tasks.math_mcqa import MathMcqa
from experiments.tasks.pocket import PocketChoice, PocketMath, PocketOpen, PocketYesNo
from experiments.tasks.strategy_qa import StrategyQa

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (ArcChallenge, HellaSwag, MathMcqa, StrategyQa, PocketChoice, PocketOpen, PocketMath, PocketYesNo)
}
__all__ = ["TASKS", "BadRow", "Example", "Rows", "Task"]
