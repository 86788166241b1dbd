"""Fixtures: a store in a temporary folder, and a harness that fills it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback_store import Store
from tests.feedback_store.harness import StoreHarness


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "feedback.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened


@pytest.fixture
def harness(store: Store) -> StoreHarness:
    return StoreHarness(store)
