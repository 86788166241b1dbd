"""GGUF files become model folders: the same weights as transformers reads, the right tokenizer, whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GgufConfig

import spear_core.models.gguf_files
from spear_core.errors import ModelUnavailable
from spear_core.models.gguf_files import convert_gguf
from spear_core.models.loading import load_model
from tests.tiny_gguf import FAMILIES, tiny_gguf

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("family", "tied"), [*((family, True) for family in FAMILIES), ("llama", False), ("qwen2", False), ("qwen3", False)]
)
def test_every_family_is_converted_into_a_folder_that_computes_the_same(
    family: str, tied: bool, tmp_path: Path
) -> None:
    original = tiny_gguf(family, tmp_path / "m.gguf", quantised=False, tied=tied)
    convert_gguf(tmp_path / "m.gguf", tmp_path / "model")
    loaded = load_model(str(tmp_path / "model"))
    converted = loaded.model.state_dict()
    for name, values in original.state_dict().items():
        assert torch.equal(converted[name].to(torch.bfloat16), values.to(torch.bfloat16)), name
    assert loaded.model.config.tie_word_embeddings is tied
    assert (
        loaded.tokenizer.decode(loaded.tokenizer("the otter").input_ids, skip_special_tokens=True).strip()
        == "the otter"
    )


# not qwen3: transformers 5.23 leaves its head size (attention.key_length) unread and takes 128
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
def test_quantised_weights_are_those_that_transformers_reads(family: str, tmp_path: Path) -> None:
    tiny_gguf(family, tmp_path / "m.gguf")
    convert_gguf(tmp_path / "m.gguf", tmp_path / "model")
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="m.gguf", quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, values in ours.state_dict().items():
        assert torch.equal(values, expected[name]), name


def test_digits_are_split_as_the_vocabulary_was_trained(tmp_path: Path) -> None:
    """GPT-2's pattern would cut the two line ends before a number apart: a reply would not encode to its own tokens."""
    for pre in ("smollm", "gpt-2"):
        tiny_gguf("llama", tmp_path / f"{pre}.gguf", pre=pre)
        convert_gguf(tmp_path / f"{pre}.gguf", tmp_path / pre)
    smollm, gpt2 = (load_model(str(tmp_path / pre)).tokenizer for pre in ("smollm", "gpt-2"))

    def words(tokenizer: object) -> list[str]:
        splitter = tokenizer.backend_tokenizer.pre_tokenizer  # type: ignore[attr-defined]
        return [word for word, _ in splitter.pre_tokenize_str("a\n\n12 b")]

    assert words(smollm) == ["a", "ĊĊ", "1", "2", "Ġb"]
    assert words(gpt2) == ["a", "Ċ", "Ċ", "12", "Ġb"]


def test_the_chat_template_and_control_tokens_come_along(tmp_path: Path) -> None:
    tiny_gguf("llama", tmp_path / "m.gguf")
    convert_gguf(tmp_path / "m.gguf", tmp_path / "model")
    tokenizer = load_model(str(tmp_path / "model")).tokenizer
    text = tokenizer.apply_chat_template([{"role": "user", "content": "the otter"}], tokenize=False)
    assert text == "<|im_start|>user\nthe otter<|im_end|>\n"
    assert tokenizer.eos_token == "<|im_end|>" and "<|im_start|>" in tokenizer.all_special_tokens


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda whole: b"GGML" + whole[4:], "is not a GGUF file that can be read"),
        (lambda whole: whole[: len(whole) // 2], "is incomplete"),
        (lambda whole: whole[:40], "is not a GGUF file that can be read"),
        (lambda whole: whole.replace(b"llama", b"llamb"), "which cannot be converted; these can: llama, qwen2"),
        (
            lambda whole: whole.replace(b"blk.1.attn_q", b"blk.1.attn_x"),
            "model.layers.1.self_attn.q_proj.weight is missing",
        ),
    ],
)
def test_what_cannot_be_converted_gives_one_sentence_and_leaves_nothing(
    damage: object, sentence: str, tmp_path: Path
) -> None:
    tiny_gguf("llama", tmp_path / "m.gguf")
    file = tmp_path / "bad.gguf"
    file.write_bytes(damage((tmp_path / "m.gguf").read_bytes()))  # type: ignore[operator]
    with pytest.raises(ModelUnavailable, match=sentence) as caught:
        convert_gguf(file, tmp_path / "out" / "model")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").iterdir())


def test_a_disk_without_room_gives_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_gguf("llama", tmp_path / "m.gguf")
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(spear_core.models.gguf_files.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ModelUnavailable, match="MB of disk space .* free some space or choose another data folder"):
        convert_gguf(tmp_path / "m.gguf", tmp_path / "out" / "model")
    assert not list((tmp_path / "out").iterdir())


KILLED = """
import sys, time
from pathlib import Path
import spear_core.models.gguf_files as files

def wait(folder):
    print("written", flush=True)
    time.sleep(60)

files._flush = wait
files.convert_gguf(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_no_model_and_the_next_start_converts(tmp_path: Path) -> None:
    file, folder = tmp_path / "m.gguf", tmp_path / "out" / "model"
    tiny_gguf("llama", file)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(file), str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "written\n"
        os.kill(process.pid, signal.SIGKILL)
    left = list(folder.parent.iterdir())
    assert len(left) == 1 and left[0].name.startswith(".model-"), "the weights are written, under another name"
    convert_gguf(file, folder)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert load_model(str(folder)).parameters > 0


def test_a_folder_that_is_there_is_not_converted_again(tmp_path: Path) -> None:
    tiny_gguf("llama", tmp_path / "m.gguf")
    convert_gguf(tmp_path / "m.gguf", tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns
    time.sleep(0.01)
    convert_gguf(tmp_path / "m.gguf", tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns == before
