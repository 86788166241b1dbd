"""A GGUF file becomes an ordinary model folder: weights in bfloat16, configuration, tokenizer, chat template.

Reads one file and writes one folder. Which file, and where the folder belongs, is for the caller to say.

transformers reads GGUF files too (`from_pretrained(..., gguf_file=...)`). It is not used for the weights because it walks
the file three times and looks every tensor name up 400 times (15 s instead of 3 s for a 135 M model). Its tables of
configuration keys, its tokenizer builders and its de-quantisation are used here, and the tests compare the results.

Source of the format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import logging
import os
import shutil
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
from safetensors import SafetensorError
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
from transformers.integrations.gguf.dequant import GGML_BLOCK, dequantize
from transformers.integrations.gguf.gguf_tokenizer_mapping import (
    convert_gguf_tokenizer,
    get_gguf_tokenizer,
    select_tokenizer_builder,
)
from transformers.integrations.gguf.reader import GgufHeader, load_gguf_state_dict, read_gguf_metadata

from spear_core.errors import ModelUnavailable, one_line

log = logging.getLogger(__name__)

# GGUF's name of an architecture: transformers' name of it
ARCHITECTURES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
}
NORMS_HOLD_ONE_MORE = ("gemma", "gemma2", "gemma3")  # their norm weights are stored as 1 + w
# Vocabularies whose digits are split one by one before byte-level BPE (llama.cpp's regex `\p{N}`). transformers 5.23
# does not know these names and would split text as GPT-2 does: two line ends before a digit become two tokens.
SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
MAGIC = b"GGUF"
READING_ERRORS = (
    OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError, ArithmeticError, MemoryError,
    struct.error,
)  # fmt: skip
BYTES_A_WEIGHT = 2  # bfloat16
ROOM_FACTOR = 1.05  # tokenizer and configuration come on top of the weights


def convert_gguf(file: Path, folder: Path) -> None:
    """Write the model of a GGUF file as a model folder, whole or not at all.

    Everything is written under a temporary name beside `folder`, flushed to the disk, then renamed. A process that is
    killed in between leaves only the temporary folder, which the next conversion removes.

    Args:
        file: a GGUF file of one of ARCHITECTURES, plain or quantised.
        folder: where the model folder is to be; nothing happens where it exists already.

    Raises:
        ModelUnavailable: with one sentence, for a file that cannot be read or converted, or a disk without room.
    """
    if folder.is_dir():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for abandoned in folder.parent.glob(f".{folder.name}-*.tmp"):
            shutil.rmtree(abandoned, ignore_errors=True)
        header = _header(file)
        _check_room(header, folder)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".tmp", dir=folder.parent))
    except OSError as e:
        raise _unwritable(folder, e) from e
    try:
        _write_model(file, header, temporary)
        _flush(temporary)
        temporary.replace(folder)
        _flush_folder(folder.parent)
    except (OSError, SafetensorError) as e:
        raise _unwritable(folder, e) from e
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def weights_in(header: GgufHeader) -> int:
    """How many numbers the file's tensors hold."""
    return sum(torch.Size(info.shape).numel() for info in header.tensors)


def is_gguf(file: Path) -> bool:
    """Whether a file begins as a GGUF file does."""
    try:
        with file.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


@dataclass(frozen=True)
class GgufSummary:
    """What a file says of itself: `title` may be empty, `parameters` counts its numbers."""

    title: str
    parameters: int


def summary(file: Path) -> GgufSummary:
    """Read from the head of the file; nothing is loaded.

    Raises:
        ModelUnavailable: with one sentence, for what cannot be converted.
    """
    header = _header(file)
    try:
        metadata, _ = read_gguf_metadata(str(file))
        select_tokenizer_builder(header.architecture, metadata.get("tokenizer.ggml.model"))
    except READING_ERRORS as e:
        raise ModelUnavailable(f"{file.name} has a tokenizer that cannot be read ({one_line(e)})") from e
    if int(metadata.get("split.count", 1)) > 1:
        raise ModelUnavailable(f"{file.name} is one part of a model in several files; only whole files can be read")
    return GgufSummary(str(metadata.get("general.name", "")), weights_in(header))


def _header(file: Path) -> GgufHeader:
    try:
        header = GgufHeader.from_file(str(file))
    except READING_ERRORS as e:
        raise ModelUnavailable(f"{file.name} is not a GGUF file that can be read ({one_line(e)})") from e
    if header.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelUnavailable(
            f"{file.name} holds a model of type {header.architecture}, which cannot be converted; these can: {known}"
        )
    end = max((info.offset + info.nbytes for info in header.tensors), default=0)
    if file.stat().st_size < header.data_start + end:
        raise ModelUnavailable(f"{file.name} is incomplete; download it again")
    return header


def _check_room(header: GgufHeader, folder: Path) -> None:
    needed = int(weights_in(header) * BYTES_A_WEIGHT * ROOM_FACTOR)
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise ModelUnavailable(
            f"preparing {folder.name} needs {needed / 1e6:,.0f} MB of disk space in {folder.parent} and {free / 1e6:,.0f} MB "
            "are free; free some space or choose another data folder"
        )


def _unwritable(folder: Path, error: Exception) -> ModelUnavailable:
    return ModelUnavailable(
        f"{folder.name} cannot be prepared in {folder.parent} ({one_line(error)}); free some space or choose another data "
        "folder"
    )


def _write_model(file: Path, header: GgufHeader, folder: Path) -> None:
    try:
        metadata, names = read_gguf_metadata(str(file))
        config = _config(metadata, names)
        with init_empty_weights():
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        tensors = _tensors(header, model)
        tokenizer = _tokenizer(file)
    except READING_ERRORS as e:
        raise ModelUnavailable(f"{file.name} cannot be converted ({type(e).__name__}: {one_line(e)})") from e
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    GenerationConfig.from_model_config(model.config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _config(metadata: dict[str, Any], tensor_names: tuple[str, ...]) -> PretrainedConfig:
    """The configuration that the file's keys describe, as transformers' own table translates them."""
    architecture = metadata["general.architecture"]
    known: Any = GGUF_CONFIG_MAPPING
    tables: dict[str, dict[str, str | None]] = {
        "general": known["general"],
        "tokenizer": known["tokenizer"],
        architecture: known.get(architecture, known["gemma2"]),
    }
    values: dict[str, Any] = {}
    for group, table in tables.items():
        for key, name in table.items():
            found = metadata.get(f"{group}.{key}")
            if name and name != "model_type" and found is not None:
                values[name] = found
    if architecture != "llama" and f"{architecture}.attention.key_length" in metadata:
        values["head_dim"] = metadata[f"{architecture}.attention.key_length"]
    if "vocab_size" not in values:
        values["vocab_size"] = metadata["tokenizer.ggml.tokens"]  # of an array of texts the reader gives the length
    values["tie_word_embeddings"] = "output.weight" not in tensor_names
    return AutoConfig.for_model(ARCHITECTURES[architecture], **values)


def _tensors(header: GgufHeader, model: PreTrainedModel) -> dict[str, Tensor]:
    """Every weight of the model by transformers' name, in bfloat16. Raises ValueError where one is missing."""
    architecture = next(key for key, name in MODEL_ARCH_NAMES.items() if name == header.architecture)
    names = get_tensor_name_map(architecture, model.config.num_hidden_layers)
    stored = load_gguf_state_dict(header)
    tensors: dict[str, Tensor] = {}
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    for name, expected in model.state_dict().items():
        stem, _, suffix = name.rpartition(".")
        gguf_name = f"{names.get_name(stem)}.{suffix}"
        if gguf_name not in stored:
            if name in tied:
                continue
            raise ValueError(f"the weight {name} is missing")
        lazy = stored[gguf_name]
        values = lazy[:]
        if lazy.ggml_type in GGML_BLOCK:
            values = dequantize(values, lazy.ggml_type)
        values = _as_transformers_stores_it(
            values.float().reshape(expected.shape), gguf_name, header.architecture, model
        )
        tensors[name] = values.to(torch.bfloat16).contiguous()
    return tensors


def _as_transformers_stores_it(values: Tensor, gguf_name: str, architecture: str, model: PreTrainedModel) -> Tensor:
    if architecture in NORMS_HOLD_ONE_MORE and gguf_name.endswith("norm.weight"):
        return values - 1
    if architecture == "llama" and (".attn_q." in gguf_name or ".attn_k." in gguf_name):
        config = model.config
        heads = config.num_attention_heads if ".attn_q." in gguf_name else config.num_key_value_heads
        # llama.cpp keeps the two halves of a rotary pair side by side, transformers apart: (H, D/2, 2) -> (H, 2, D/2)
        pairs = values.reshape(heads, values.shape[0] // heads // 2, 2, *values.shape[1:])
        return pairs.transpose(1, 2).reshape(values.shape)
    return values


def _tokenizer(file: Path) -> PreTrainedTokenizerFast:
    architecture, vocabulary, settings = get_gguf_tokenizer(str(file))
    backend, _ = convert_gguf_tokenizer(architecture, vocabulary)
    if vocabulary.get("tokenizer_type") == "gpt2" and vocabulary.get("pre_tokenizer_type") in SINGLE_DIGITS:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, **settings)


def _flush(folder: Path) -> None:
    """Onto the disk, so that the rename cannot become durable before what it names."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            with path.open("rb") as file:
                os.fsync(file.fileno())
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
