"""A model is loaded by a thread that has ended before the app is used: torch's own threads end with it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import services.app
import services.models.switching
from spear_core.models.loading import load_model
from tests.pocket_model import POCKET_MODEL
from tests.services.conftest import OpenBench


def test_no_thread_that_loaded_a_model_stays(open_app: OpenBench, monkeypatch: pytest.MonkeyPatch) -> None:
    loaders: list[threading.Thread] = []

    def load(*arguments: Any, **options: Any) -> Any:
        loaders.append(threading.current_thread())
        return load_model(*arguments, **options)

    monkeypatch.setattr(services.app, "load_model", load)
    monkeypatch.setattr(services.models.switching, "load_model", load)
    app = open_app()
    assert app.models.switch(str(POCKET_MODEL))
    assert len(loaders) == 2 and not any(thread.is_alive() for thread in loaders)
