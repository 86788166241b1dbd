"""A workbench over the real pocket model and an empty data folder; learning runs when the test says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from services.settings import Settings
from services.workbench import Workbench, open_workbench

ROOT = Path(__file__).resolve().parent.parent.parent
POCKET_MODEL = ROOT / "assets" / "pocket-model"
OpenBench = Callable[..., Workbench]


@pytest.fixture(scope="session")
def starter_answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model's own answers, made once for all tests as the app makes them once for a data folder."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("starter")
    bench = open_workbench(Settings(model=str(POCKET_MODEL), data_folder=folder), start_jobs=False)
    bench.learning.prepare()
    bench.close()
    return folder / "models"


@pytest.fixture
def open_bench(tmp_path: Path, starter_answers: Path) -> Iterator[OpenBench]:
    """Call it to open the bench, again to restart on the same data folder, with `fresh` to begin anew."""
    opened: list[Workbench] = []
    folders = [tmp_path / "data"]
    shutil.copytree(starter_answers, folders[0] / "models")

    def open_(
        *, start_jobs: bool = False, fresh: bool = False, model: str = str(POCKET_MODEL), **spear: Any
    ) -> Workbench:
        while opened:
            opened.pop().close()
        if fresh:
            folders.append(tmp_path / f"data{len(folders)}")
            shutil.copytree(starter_answers, folders[-1] / "models")
        settings = Settings(model=model, data_folder=folders[-1], learn_interval_seconds=1.0, spear=spear)
        opened.append(open_workbench(settings, start_jobs=start_jobs))
        return opened[-1]

    yield open_
    while opened:
        opened.pop().close()


@pytest.fixture
def bench(open_bench: OpenBench) -> Workbench:
    return open_bench()
