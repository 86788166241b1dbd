"""A workbench over the real pocket model and an empty data folder; learning runs when the test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from services.app import AppServices, open_services
from services.peers.settings import FederationSettings
from services.settings import Settings
from tests.pocket_model import FEW_ANCHORS, POCKET_MODEL

ROOT = Path(__file__).resolve().parent.parent.parent
OpenBench = Callable[..., AppServices]
OpenPeer = Callable[..., AppServices]


@pytest.fixture
def open_app(tmp_path: Path) -> Iterator[OpenBench]:
    """Call it to open the bench, again to restart on the same data folder, with `fresh` to start over."""
    opened: list[AppServices] = []
    folders = [tmp_path / "data"]

    def open_(
        *, start_jobs: bool = False, fresh: bool = False, model: str = str(POCKET_MODEL), **spear: Any
    ) -> AppServices:
        while opened:
            opened.pop().close()
        if fresh:
            folders.append(tmp_path / f"data{len(folders)}")
        settings = Settings(
            model=model, data_folder=folders[-1], learn_interval_seconds=1.0, spear={**FEW_ANCHORS, **spear}
        )
        opened.append(open_services(settings, start_jobs=start_jobs))
        return opened[-1]

    yield open_
    while opened:
        opened.pop().close()


@pytest.fixture
def app(open_app: OpenBench) -> AppServices:
    return open_app()


@pytest.fixture
def open_peer(tmp_path: Path) -> Iterator[OpenPeer]:
    """Call it with a name to open one more workbench, which others can reach at its settings' address.

    `spear` changes its preset; the other keywords are `FederationSettings`.
    """
    with ExitStack() as stack:

        def open_(name: str, spear: dict[str, Any] | None = None, **federation: object) -> AppServices:
            folder = tmp_path / name
            settings = FederationSettings(name=name, **federation)  # type: ignore[arg-type]
            app = open_services(
                Settings(
                    model=str(POCKET_MODEL),
                    data_folder=folder,
                    federation=settings,
                    spear={**FEW_ANCHORS, **(spear or {})},
                ),
                start_jobs=False,
            )
            stack.callback(app.close)
            return app

        yield open_
