"""One running server with three users, for all tests that ask over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from services.accounts.users_file import Accounts
from services.app import open_services
from services.settings import Settings
from tests.pocket_model import FEW_ANCHORS, POCKET_MODEL
from tests.server.running import Running, add_users, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """anna is an owner, ben and cora are guests; it learns by itself, as the app does."""
    with new_server(tmp_path_factory.mktemp("server")) as started:
        yield started


@contextmanager
def new_server(folder: Path) -> Iterator[Running]:
    """A server with those users that has learned nothing yet."""
    torch.set_num_threads(1)
    keys = add_users(folder / "users.json")
    settings = Settings(
        model=str(POCKET_MODEL), data_folder=folder / "data", learn_interval_seconds=1.0, spear=FEW_ANCHORS
    )
    app_services = open_services(settings)
    with running(app_services, Accounts(folder / "users.json"), keys) as started:
        yield started
    app_services.close()
