"""Rows of a Hugging Face dataset, by the `datasets` library or from a folder of JSON lines.

One sentence says what to do where they cannot be had.
"""

from __future__ import annotations

import json
import random
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from experiments.tasks.base import Example, Rows, Task, read_rows
from spear_core.errors import SpearError, one_line


class DataUnavailable(SpearError):
    """A dataset cannot be loaded; the message is one line with the remedy."""


def hub_rows(name: str, split: str, configuration: str | None = None) -> Iterable[Mapping[str, Any]]:
    """The rows of one split, from the local cache or the Hub. Raises DataUnavailable."""
    try:
        from datasets import load_dataset
    except ImportError as e:
        raise DataUnavailable(
            f"the task's data ({name}) is read by the datasets library: pip install -r requirements-experiments.txt, "
            "or take a pocket task, which needs no download"
        ) from e
    try:
        return load_dataset(name, configuration, split=split)
    except (OSError, ValueError, RuntimeError) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise DataUnavailable(
            f"the dataset {name} is not on this machine and cannot be downloaded ({reason[:120]}); connect it once, copy "
            "its Hugging Face cache here, or take a pocket task, which needs no download"
        ) from e


def rows_of_file(file: Path) -> list[Mapping[str, Any]]:
    """The rows of a file of JSON lines, one object each. Raises DataUnavailable."""
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as e:
        raise DataUnavailable(f"{file} cannot be read as JSON lines ({one_line(e)}); check --data-folder") from e
    return rows


class HubTask(Task):
    """A task whose examples are the rows of a dataset, one each.

    With `data_folder` they are read from `NAME_train.jsonl` and `NAME_test.jsonl` in it, whose lines are the dataset's rows.
    """

    hub_name: ClassVar[str]
    hub_configuration: ClassVar[str | None] = None
    splits: ClassVar[tuple[str, str]]  # training, measuring
    instructions: ClassVar[str]  # with which every question ends
    # for models too small to follow these: what stands in their place, and questions with their answers
    short_instructions: ClassVar[str]
    worked: ClassVar[tuple[tuple[str, str], ...]]

    def __init__(self, data_folder: Path | None = None, worked_examples: bool = False) -> None:
        self.data_folder = data_folder
        self.worked_examples = worked_examples

    def load(self, most_train: int, most_test: int, seed: int) -> Rows:
        """Where there are more rows than are wanted, `seed` draws which."""
        if self.data_folder is not None:
            found = [rows_of_file(self.data_folder / f"{self.name}_{part}.jsonl") for part in ("train", "test")]
        else:
            found = [list(hub_rows(self.hub_name, split, self.hub_configuration)) for split in self.splits]
        for part, (of_part, most) in enumerate(zip(found, (most_train, most_test), strict=True)):
            if len(of_part) > most:
                random.Random(2 * seed + part).shuffle(of_part)
        train, test = found
        rows = self.read(train, test, most_train, most_test)
        if self.worked_examples:
            rows.train, rows.test = (list(map(self._shown, examples)) for examples in (rows.train, rows.test))
        return rows

    def _shown(self, example: Example) -> Example:
        """The same question after worked examples, with the short instructions."""

        def asked(question: str) -> str:
            return f"{question}\n{self.short_instructions}"

        bare = example.question.removesuffix(self.instructions).rstrip()
        return replace(example, question=asked(bare), before=tuple((asked(q), a) for q, a in self.worked))

    def read(
        self, train: Iterable[Mapping[str, Any]], test: Iterable[Mapping[str, Any]], most_train: int, most_test: int
    ) -> Rows:
        """At most so many usable examples of each; unusable rows are counted by reason."""
        bad: Counter[str] = Counter()
        return Rows(read_rows(train, self.example, most_train, bad), read_rows(test, self.example, most_test, bad), bad)

    @abstractmethod
    def example(self, row: Mapping[str, Any]) -> Example:
        """Raises BadRow."""
