"""Rows of a Hugging Face dataset, by the `datasets` library. One sentence says what to do where they cannot be had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

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
