"""Rows of a Hugging Face dataset, by the `datasets` library. One sentence says what to do where they cannot be had."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from experiments.tasks.base import Example, Rows, Task, read_rows
from spear_core.errors import SpearError


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


class HubTask(Task):
    """A task whose examples are the rows of a dataset, one each."""

    hub_name: ClassVar[str]
    hub_configuration: ClassVar[str | None] = None
    splits: ClassVar[tuple[str, str]]  # training, measuring

    def load(self, most_train: int, most_test: int, seed: int) -> Rows:
        train, test = (hub_rows(self.hub_name, split, self.hub_configuration) for split in self.splits)
        return self.read(train, test, most_train, most_test)

    def read(
        self, train: Iterable[Mapping[str, Any]], test: Iterable[Mapping[str, Any]], most_train: int, most_test: int
    ) -> Rows:
        """At most so many usable examples of each; unusable rows are counted by reason."""
        bad: Counter[str] = Counter()
        return Rows(read_rows(train, self.example, most_train, bad), read_rows(test, self.example, most_test, bad), bad)

    @abstractmethod
    def example(self, row: Mapping[str, Any]) -> Example:
        """Raises BadRow."""
