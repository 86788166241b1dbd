"""Loading a model: what is loaded, what is refused, and that each refusal is one line saying what to do."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import load, load_file, save_file
from transformers import AutoTokenizer

from spear_core.errors import ConfigError, ModelUnavailable
from spear_core.models import dtypes, loading
from spear_core.models import files as model_files
from spear_core.models.files import fingerprint_of
from spear_core.models.loading import load_model
from spear_core.models.prompts import encode_completion, encode_prompt, end_token_ids, padding_token_id
from spear_core.models.settings import ModelSettings
from tests.tiny_models import KINDS, tiny_folder

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder("llama3", tmp_path_factory.mktemp("tiny") / "llama3")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(original, tmp_path / "model"))


def refusal(name: str | Path, **options: Any) -> str:
    """The one line that loading is refused with."""
    with pytest.raises(ModelUnavailable) as caught:
        load_model(str(name), **options)
    text = str(caught.value)
    assert "\n" not in text
    assert str(name) in text
    assert any(
        verb in text for verb in ("give", "choose", "download", "check", "use", "convert", "accept", "try", "start")
    ), text
    return text


def change_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_is_frozen_in_eval_mode_and_answers(tmp_path: Path, kind: str) -> None:
    loaded = load_model(str(tiny_folder(kind, tmp_path / kind)))
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}  # small and on a CPU
    assert loaded.parameters == sum(p.numel() for p in loaded.model.parameters())
    assert loaded.context_tokens == 256
    assert loaded.tokenizer.pad_token_id is not None
    assert loaded.settings == ModelSettings()
    assert len(loaded.fingerprint) == 16
    logits = loaded.model(torch.tensor([[1, 2, 3]])).logits
    assert logits.shape == (1, 3, len(loaded.tokenizer))


def test_the_weights_are_those_in_the_file(folder: Path) -> None:
    stored = load_file(folder / "model.safetensors")
    loaded = load_model(str(folder)).model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in stored.items())


@pytest.mark.parametrize("kind", ["llama3", "gemma2"])  # gemma2 ties its head to its embeddings
def test_a_running_model_does_not_follow_changes_of_its_file(tmp_path: Path, kind: str) -> None:
    folder, ids = tiny_folder(kind, tmp_path / kind), torch.tensor([[1, 2, 3]])
    model = load_model(str(folder)).model
    before = model(ids).logits
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.seek(-8000, 2)
        stream.write(b"\0" * 8000)
    assert torch.equal(model(ids).logits, before)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == model.config.tie_word_embeddings


@pytest.mark.parametrize(
    ("hardware", "small", "stored", "chosen"),
    [
        (True, 10_000, torch.float32, torch.bfloat16),  # too large to keep what it is stored in
        (True, 1, torch.float32, torch.float32),
        (True, 1, torch.bfloat16, torch.bfloat16),
        (False, 1, torch.bfloat16, torch.float32),
        (False, 10_000, torch.float32, torch.float32),
    ],
)
def test_the_dtype_follows_the_hardware_and_the_log_says_why(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    hardware: bool,
    small: int,
    stored: torch.dtype,
    chosen: torch.dtype,
) -> None:
    model = load_model(str(folder), dtype="float32").model
    model.to(stored).save_pretrained(folder)
    monkeypatch.setattr(dtypes, "has_bfloat16", lambda device: hardware)
    monkeypatch.setattr(dtypes, "SMALL_MODEL_PARAMETERS", sum(p.numel() for p in model.parameters()) // small + 1)
    with caplog.at_level(logging.INFO):
        assert load_model(str(folder)).model.dtype == chosen
    assert f"{chosen} on cpu (" in caplog.text
    assert load_model(str(folder), dtype="float32").model.dtype == torch.float32


def test_a_folder_never_makes_a_network_call(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(model_files, "snapshot_download", refuse)
    assert load_model(str(folder), offline=False).parameters > 0


def test_the_fingerprint_is_of_the_model_and_not_of_the_folder(folder: Path, tmp_path: Path) -> None:
    before = fingerprint_of(folder)
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    change_config(moved, transformers_version="9.9", _name_or_path="/somewhere", dtype="bfloat16")
    (moved / "spear.json").write_text('{"max_new_tokens": 8}')
    assert fingerprint_of(moved) == before
    change_config(moved, rms_norm_eps=0.5)
    assert fingerprint_of(moved) != before


@pytest.mark.parametrize("whole_bytes", [model_files.HASH_WHOLE_BYTES, 0])
def test_one_changed_weight_matrix_changes_the_fingerprint_hashed_whole_or_sampled(
    folder: Path, monkeypatch: pytest.MonkeyPatch, whole_bytes: int
) -> None:
    monkeypatch.setattr(model_files, "HASH_WHOLE_BYTES", whole_bytes)
    before = fingerprint_of(folder)
    assert fingerprint_of(folder) == before
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] += 1.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert fingerprint_of(folder) != before


def test_a_sharded_model_loads_and_a_missing_shard_is_named(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards: dict[str, dict[str, torch.Tensor]] = {"a.safetensors": {}, "b.safetensors": {}}
    for position, (name, tensor) in enumerate(weights.items()):
        shards["ab"[position % 2] + ".safetensors"][name] = tensor
    for file, tensors in shards.items():
        save_file(tensors, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, part in shards.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load_model(str(folder)).parameters == sum(tensor.numel() for tensor in weights.values())
    (folder / "b.safetensors").unlink()
    assert "b.safetensors is missing" in refusal(folder)


def test_a_missing_folder_a_file_and_an_empty_folder_are_told_apart(tmp_path: Path) -> None:
    assert "there is no folder" in refusal(tmp_path / "none")
    assert "there is no folder" in refusal("./none")
    (tmp_path / "file").write_text("x")
    assert "is a file" in refusal(tmp_path / "file")
    assert "no config.json" in refusal(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "is an adapter" in refusal(tmp_path)
    tiny_folder("qwen2", tmp_path)
    assert "holds a model and an adapter" in refusal(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
        {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
        {"model_type": "vit"},
    ],
)
def test_a_model_that_does_not_write_text_from_left_to_right_is_refused(folder: Path, config: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    assert "which does not write text" in refusal(folder)


def test_unknown_architectures_and_remote_code_are_refused(folder: Path) -> None:
    change_config(folder, model_type="brand_new")
    assert "update transformers" in refusal(folder)
    change_config(folder, auto_map={"AutoConfig": "configuration.Config"})
    assert "never runs" in refusal(folder)


def test_remote_code_is_not_run_for_a_known_architecture(folder: Path) -> None:
    change_config(folder, auto_map={"AutoModelForCausalLM": "evil.Model"})
    (folder / "evil.py").write_text("raise AssertionError('code from the model folder was run')")
    assert type(load_model(str(folder)).model).__name__ == "LlamaForCausalLM"


def test_pickled_weights_are_never_read(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "no weights" in refusal(folder)
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert "pickle" in refusal(folder)


def test_a_model_too_big_for_memory_is_refused_before_anything_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("loading began")

    stored = sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
    free = SimpleNamespace(available=stored * 4 * 1.2 + 1)  # float32, and a fifth more
    monkeypatch.setattr(model_files.psutil, "virtual_memory", lambda: free)
    load_model(str(folder))
    free.available -= 2
    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", fail)
    assert "choose a smaller model" in refusal(folder)


def test_damaged_weights_are_refused_however_they_are_damaged(folder: Path) -> None:
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    weights = load(whole)  # not load_file: its tensors are views of the file that is about to be spoiled
    for spoiled in (b"", b"\xff" * 64, whole[:-1], whole[: len(whole) // 2], whole + b"x", b"\x02" + b"\0" * 7 + b"[]"):
        file.write_bytes(spoiled)
        assert "damaged" in refusal(folder)
    name = "model.layers.0.mlp.up_proj.weight"
    save_file({k: v for k, v in weights.items() if k != name}, file, metadata={"format": "pt"})
    assert name in refusal(folder)
    save_file({**weights, name: torch.full_like(weights[name], torch.nan)}, file, metadata={"format": "pt"})
    assert "finite" in refusal(folder)
    save_file({**weights, name: weights[name][:-1].clone()}, file, metadata={"format": "pt"})
    refusal(folder)


def test_a_damaged_config_and_a_missing_or_foreign_tokenizer_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    assert "tokenizer" in refusal(folder)
    (folder / "tokenizer.json").unlink()
    assert "no tokenizer" in refusal(folder)
    (folder / "config.json").write_text("{")
    assert "config.json is damaged" in refusal(folder)
    small = tiny_folder("wordpiece", tmp_path / "small")
    large = tiny_folder("plain", tmp_path / "large")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(large / file, small / file)
    assert "the tokenizer has 400 tokens but the model only" in refusal(small)


def test_a_hub_id_offline_is_refused_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    started = time.monotonic()
    assert "offline mode is on" in refusal("nobody/no-such-model")
    assert "offline mode is on" in refusal("nobody/no-such-model", offline=True)
    assert time.monotonic() - started < 2.0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LocalEntryNotFoundError("long\nstory"), "the hub cannot be reached"),
        (GatedRepoError.__new__(GatedRepoError), "hf auth login"),
        (RepositoryNotFoundError.__new__(RepositoryNotFoundError), "check the spelling"),
        (OSError("No space left\non device"), "No space left on device"),
    ],
)
def test_what_the_hub_answers_becomes_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    def answer(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(model_files, "snapshot_download", answer)
    assert words in refusal("owner/name", offline=False)


@pytest.mark.parametrize(
    ("names", "gigabytes", "words"),
    [(["pytorch_model.bin"], 1, "pickle"), ([], 0, "no weights"), (["model.safetensors"], 10**6, "smaller model")],
)
def test_nothing_large_is_downloaded_in_vain(
    monkeypatch: pytest.MonkeyPatch, names: list[str], gigabytes: int, words: str
) -> None:
    def listing(*_: Any, dry_run: bool = False, local_files_only: bool = False, **__: Any) -> list[SimpleNamespace]:
        if local_files_only:
            raise LocalEntryNotFoundError("not in the cache")
        assert dry_run, "a download began"
        return [SimpleNamespace(filename=n, file_size=gigabytes * 10**9, will_download=True) for n in names]

    monkeypatch.setattr(model_files, "snapshot_download", listing)
    assert words in refusal("owner/name", offline=False)


def test_unknown_dtypes_and_devices_say_what_is_allowed(folder: Path) -> None:
    with pytest.raises(ConfigError, match="float32, bfloat16, float16"):
        load_model(str(folder), dtype="int3")
    with pytest.raises(ConfigError, match="cpu, cuda, mps or auto"):
        load_model(str(folder), device="toaster")
    if not torch.cuda.is_available():
        with pytest.raises(ModelUnavailable, match="--device cpu"):
            load_model(str(folder), device="cuda")


def test_settings_come_from_the_folder_and_the_rest_are_defaults(folder: Path) -> None:
    (folder / "spear.json").write_text(
        '{"revise_with_hint": "Better: {hint}", "max_new_tokens": 64, "examples": ["Hi?"]}'
    )
    found = load_model(str(folder)).settings
    assert (found.revise_with_hint, found.max_new_tokens, found.examples) == ("Better: {hint}", 64, ("Hi?",))
    assert found.probe_prompts == ModelSettings().probe_prompts


def test_a_tokenizer_with_a_token_too_many_loads_and_that_token_is_never_used(tmp_path: Path) -> None:
    folder = tiny_folder("qwen2", tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = len(tokenizer)
    tokenizer.add_tokens(["<image_soft_token>", "otterly"])  # as Gemma 3 has one for images; the other is a word
    tokenizer.save_pretrained(folder)
    loaded = load_model(str(folder))
    assert len(loaded.tokenizer) == rows + 2 and loaded.model.get_input_embeddings().num_embeddings == rows
    for typed in ("a <image_soft_token> b", "it is otterly good", "<image_soft_token>"):
        messages = [{"role": "user", "content": typed}, {"role": "assistant", "content": typed}]
        messages.append({"role": "user", "content": "why?"})
        ids = encode_prompt(loaded.tokenizer, messages, max_tokens=200)
        assert max(ids) < rows and loaded.tokenizer.decode(ids).count(typed) == 2, "the same characters, other tokens"
        assert max(encode_completion(loaded.tokenizer, typed)) < rows
        loaded.model(input_ids=torch.tensor([ids]))


def test_an_end_or_padding_token_without_an_embedding_is_not_used(tmp_path: Path) -> None:
    folder = tiny_folder("plain", tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"eos_token": "<end>", "pad_token": "<fill>"})
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + '<end>' }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    loaded = load_model(str(folder))
    assert end_token_ids(loaded.tokenizer) == [] and padding_token_id(loaded.tokenizer) < rows
    ids = encode_prompt(loaded.tokenizer, [{"role": "user", "content": "Where is Vera? " * 8}], max_tokens=200)
    assert max(ids) < rows, "the template's own end of a turn is left out"


def test_loading_shows_no_progress_bar(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tiny_folder("qwen2", tmp_path / "model")
    transformers.utils.logging.enable_progress_bar()
    capfd.readouterr()  # saving has a bar of its own
    load_model(str(folder))
    assert capfd.readouterr() == ("", "")
