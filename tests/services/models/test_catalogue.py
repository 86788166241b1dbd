"""Models that are on this machine already are found, weighed and used where they are; what cannot be used says why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from services.app import AppServices
from services.models import recommended
from services.models.found import HUB, LM_STUDIO, OLLAMA, candidates
from services.models.recommended import MODELS, seconds_a_correction
from services.views import FoundModel
from spear_core.errors import SpearError
from spear_core.models.loading import load_model, weigh_model
from tests.services.conftest import OpenBench
from tests.services.harness import ask
from tests.tiny_gguf import FAMILIES, tiny_gguf
from tests.tiny_models import tiny_folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder in which nobody keeps models yet."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / ".cache" / "huggingface" / "hub"))
    return folder


def in_ollama(home: Path, name: str, tag: str, file: Path, digest: str, **more: str) -> Path:
    models = home / ".ollama" / "models"
    blob = models / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(file, blob)
    layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"}]
    layers += [{"mediaType": kind, "digest": said} for kind, said in more.items()]
    manifest = models / "manifests" / "registry.ollama.ai" / "library" / name / tag
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    return blob


def by_title(models: list[FoundModel]) -> dict[str, FoundModel]:
    return {model.title: model for model in models}


@pytest.fixture
def app(home: Path, open_app: OpenBench) -> AppServices:
    return open_app()


def test_models_of_three_programs_are_found_without_being_told_a_path(home: Path, app: AppServices) -> None:
    in_hub = home / ".cache/huggingface/hub/models--owner--tiny"
    tiny_folder("qwen2", in_hub / "snapshots" / "abc")
    (in_hub / "refs").mkdir()
    (in_hub / "refs" / "main").write_text("abc")
    studio = home / ".lmstudio/models/someone/Tiny-GGUF"
    studio.mkdir(parents=True)
    tiny_gguf("llama", studio / "tiny-llama.gguf")
    (studio / "mmproj-tiny.gguf").write_bytes(b"GGUF")  # eyes for another model
    tiny_gguf("qwen3", home / "q.gguf")
    blob = in_ollama(home, "qwen3", "0.6b", home / "q.gguf", "f" * 64)
    found = by_title(app.models.on_this_machine())
    assert {title: model.place for title, model in found.items()} == {
        "owner/tiny": HUB,
        "tiny-llama": LM_STUDIO,
        "qwen3:0.6b": OLLAMA,
    }
    assert all(model.needed_bytes > 0 and not model.problem for model in found.values())
    assert found["qwen3:0.6b"].name == str(blob) and found["owner/tiny"].name == "owner/tiny"


def test_what_cannot_be_used_says_why_in_one_sentence(home: Path, app: AppServices, tmp_path: Path) -> None:
    tiny_gguf("llama", home / "a.gguf")
    in_ollama(
        home, "tuned", "latest", home / "a.gguf", "a" * 64, **{"application/vnd.ollama.image.adapter": "sha256:b"}
    )
    in_ollama(home, "gone", "latest", tiny_file(home / "b.gguf"), "b" * 64).unlink()
    manifests = home / ".ollama/models/manifests/registry.ollama.ai/library"
    (manifests / "broken").mkdir()
    (manifests / "broken" / "latest").write_text("{")
    mine = tmp_path / "mine"
    (mine / "deep" / "er").mkdir(parents=True)
    tiny_file(mine / "deep" / "er" / "cut.gguf").write_bytes((mine / "deep" / "er" / "cut.gguf").read_bytes()[:-2000])
    (mine / "noise.gguf").write_bytes(b"not a model")
    folder = tiny_folder("plain", mine / "no-weights")
    (folder / "model.safetensors").unlink()
    app.models.name_folder(str(mine))
    problems = {title: model.problem for title, model in by_title(app.models.on_this_machine()).items()}
    assert problems.keys() == {"tuned:latest", "gone:latest", "cut", "noise", "no-weights"}
    assert "with an adapter on top" in problems["tuned:latest"] and "pull it again" in problems["gone:latest"]
    assert "incomplete" in problems["cut"] and "no weights" in problems["no-weights"] and problems["noise"]
    assert not any("\n" in problem for problem in problems.values())


def tiny_file(file: Path) -> Path:
    tiny_gguf("llama", file)
    return file


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gguf_file_of_every_family_is_weighed_used_and_nothing_is_copied_before(
    family: str, home: Path, app: AppServices, tmp_path: Path
) -> None:
    file = tmp_path / f"tiny-{family}.gguf"
    tiny_gguf(family, file)
    memory = app.models.weigh(str(file))
    assert memory.needed_bytes > 0 and memory.free_bytes > 0
    base_models = app.engine.data_folder / "base-models"
    assert not base_models.exists(), "looking at it copies nothing"
    assert app.models.switch(str(file))
    assert app.model.name.startswith(f"tiny-{family}-") and ask(app, "Who lives in Oslo?").complete
    assert app.engine.loaded.parameters == memory.parameters
    before = [folder.stat().st_mtime_ns for folder in base_models.iterdir()]
    assert app.models.switch(str(file)), "a second time it is there already"
    assert [folder.stat().st_mtime_ns for folder in base_models.iterdir()] == before


def test_the_app_starts_with_a_gguf_file_and_two_files_are_two_models(
    home: Path, open_app: OpenBench, tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
    tiny_gguf("llama", one / "m.gguf", quantised=True)
    tiny_gguf("llama", other / "m.gguf", quantised=False)
    app = open_app(model=str(one / "m.gguf"))
    first = app.model.name
    assert app.models.switch(str(other / "m.gguf")) and app.model.name != first


def test_a_folder_is_named_kept_and_given_up(home: Path, app: AppServices, tmp_path: Path) -> None:
    with pytest.raises(SpearError, match="no folder"):
        app.models.name_folder(str(tmp_path / "nowhere"))
    tiny_folder("qwen2", tmp_path / "mine" / "tiny")
    app.models.name_folder(f" {tmp_path / 'mine'} ")
    assert app.models.named_folder() == str(tmp_path / "mine")
    assert list(by_title(app.models.on_this_machine())) == ["tiny"]
    app.models.name_folder("")
    assert app.models.on_this_machine() == []


def test_a_model_in_the_cache_is_loaded_without_asking_the_hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_hub = home / ".cache/huggingface/hub/models--owner--tiny"
    tiny_folder("qwen2", in_hub / "snapshots" / "abc")
    (in_hub / "refs").mkdir()
    (in_hub / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    assert load_model("owner/tiny").parameters == weigh_model("owner/tiny").parameters


def test_a_place_that_may_not_be_read_is_passed_over(home: Path) -> None:
    assert candidates(str(home / "nowhere"), {"HOME": str(home)}) == []


def test_the_recommended_models_say_what_they_ask_of_this_machine(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = app.models.recommended()
    assert len(listed) == len(MODELS) and all(135e6 < model.parameters < 3.2e9 for model in listed)
    assert all(model.licence == "Apache-2.0" and model.seconds > 0 for model in listed)
    seconds = [model.seconds for model in sorted(listed, key=lambda m: m.parameters)]
    assert seconds == sorted(seconds)
    assert seconds_a_correction(270e6, (20.0, 135e6)) == 40.0, "by what corrections took here, where some were learned"
    monkeypatch.setattr(recommended, "_billions_a_second", lambda: recommended.MEASURED_RATE / 2)
    twice = 2 * recommended.MEASURED_SECONDS
    assert seconds_a_correction(135e6) == pytest.approx(twice), "a machine half as fast as the one of the measurement"
    with pytest.raises(SpearError, match="not in the list"):
        app.models.download("owner/anything")
