"""Services over a tiny model, for handlers that are tested with what they call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.app import AppServices
from tests.faults.quick import open_quick


@pytest.fixture
def app(tmp_path: Path) -> Iterator[AppServices]:
    services = open_quick(tmp_path / "data")
    yield services
    services.close()
