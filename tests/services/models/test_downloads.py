"""Downloads: the true files, progress, cancel, going on where it stopped, and one sentence for what goes wrong."""

from __future__ import annotations

import json
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from services.models import downloads
from services.models.downloads import DownloadService, DownloadView
from spear_core.errors import SpearError
from spear_core.models.loading import load_model
from tests.services.models.hub import Hub, hub
from tests.tiny_models import tiny_folder

NAME = "owner/tiny"
WEIGHTS = "model.safetensors"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)
    with hub(NAME, tiny_folder("qwen2", tmp_path / "served")) as running:
        yield running


@pytest.fixture
def service(tmp_path: Path, served: Hub) -> Iterator[DownloadService]:
    made = DownloadService(tmp_path / "data", served.endpoint)
    yield made
    served.go_on.set()
    made.close()


def over(service: DownloadService) -> DownloadView:
    deadline = time.monotonic() + 60
    while service.view.phase == "running" and time.monotonic() < deadline:
        time.sleep(0.01)
    return service.view


def test_a_download_is_the_whole_model_and_loads(service: DownloadService, served: Hub) -> None:
    service.start(NAME)
    view = over(service)
    assert view.phase == "done", view
    total = sum(file.stat().st_size for file in served.folder.iterdir())
    assert (view.done_bytes, view.total_bytes) == (total, total)
    loaded = load_model(view.folder)
    assert loaded.parameters == view.parameters > 0, "estimated from the configuration before the weights came"
    assert not service.has_part(NAME) and Path(view.folder) == service.folder_of(NAME)


def test_a_cancelled_download_goes_on_where_it_stopped_also_after_a_restart(
    service: DownloadService, served: Hub, tmp_path: Path
) -> None:
    size = (served.folder / WEIGHTS).stat().st_size
    others = sum(file.stat().st_size for file in served.folder.iterdir()) - size
    served.held_after[WEIGHTS] = size // 2
    service.start(NAME)
    assert served.is_held.wait(30)
    deadline = time.monotonic() + 30
    while service.view.done_bytes < others + size // 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(SpearError, match="is being downloaded"):
        service.start(NAME)
    service.cancel()
    served.go_on.set()
    view = over(service)
    assert view.phase == "cancelled" and "press Resume to continue" in view.sentence
    assert service.has_part(NAME) and not service.folder_of(NAME).exists()
    served.held_after.clear()
    served.asked.clear()
    restarted = DownloadService(tmp_path / "data", served.endpoint)
    restarted.start(NAME)
    assert over(restarted).phase == "done"
    ((file, begin),) = served.asked
    assert file == WEIGHTS and 0 < begin <= size, "files that were whole are not asked for again, nor the first part"
    assert (restarted.folder_of(NAME) / WEIGHTS).read_bytes() == (served.folder / WEIGHTS).read_bytes()


def test_damaged_weights_are_found_out_and_fetched_again(service: DownloadService, served: Hub) -> None:
    served.damaged = {WEIGHTS}
    service.start(NAME)
    view = over(service)
    assert view.phase == "failed" and "was damaged" in view.sentence
    served.damaged = set()
    service.start(NAME)
    assert over(service).phase == "done"


def test_what_cannot_be_loaded_is_refused_before_its_weights_come(service: DownloadService, served: Hub) -> None:
    config = served.folder / "config.json"
    config.write_text(json.dumps({"model_type": "no-such-model"}))
    service.start(NAME)
    view = over(service)
    assert view.phase == "failed" and "cannot be used here" in view.sentence
    assert WEIGHTS not in [file for file, _ in served.asked]


def test_a_full_disk_is_said_before_anything_large_comes(
    service: DownloadService, served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: usage(1, 1, 0))
    service.start(NAME)
    view = over(service)
    assert view.phase == "failed" and "of disk space and 0.0 GB are free" in view.sentence and not served.asked


def test_without_a_hub_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    service = DownloadService(tmp_path / "data", "http://127.0.0.1:9")
    service.start(NAME)
    view = over(service)
    assert view.phase == "failed" and view.sentence.startswith("The Hugging Face Hub cannot be reached"), view
