"""A base model, loaded from a folder or the Hugging Face Hub. No adapter, no generation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import get_max_memory
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as logging_of_transformers

from spear_core.errors import ConfigError, ModelUnavailable, one_line
from spear_core.inference.fused_model import fuse_projections
from spear_core.models.chat_template import limit_ids
from spear_core.models.dtypes import choose_dtype
from spear_core.models.estimate import parameters_of
from spear_core.models.files import (
    MEMORY_MARGIN,
    check_memory,
    fingerprint_of,
    free_bytes,
    local_folder,
    read_config,
    stored_numbers,
)
from spear_core.models.gguf_files import summary
from spear_core.models.placement import AUTO, best_device
from spear_core.models.settings import ModelSettings, read_settings

log = logging.getLogger(__name__)

FALLBACK_CONTEXT_TOKENS = 2048
LEAST_CONTEXT_TOKENS = 64  # a quarter of it is the least that encode_prompt takes for a question
MOST_SURPLUS = 0.05  # share of a tokenizer's tokens that may lack an embedding
LOADING_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError, SafetensorError)


@dataclass(frozen=True)
class LoadedModel:
    """A base model ready for inference, and for adapters on top of it.

    Attributes:
        model: in eval mode; no parameter requires a gradient.
        tokenizer: with a padding token (the end token serves where the folder names none).
        name: the folder or hub id as the user gave it.
        fingerprint: 16 hex digits over architecture and weights; see `fingerprint_of`.
        parameters: number of weights.
        context_tokens: the longest sequence, prompt and reply together.
        settings: from `spear.json`, or the defaults.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    fingerprint: str
    parameters: int
    context_tokens: int
    settings: ModelSettings


def load_model(
    name_or_folder: str,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    offline: bool | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load any Hugging Face causal language model.

    Args:
        name_or_folder: a folder (no call leaves the machine then) or a hub id.
        device: a torch device name, or `auto`: an accelerator that holds the whole model, else the CPU.
        dtype: `float32`, `bfloat16`, `float16`, or `auto`, by what the device has in hardware (`choose_dtype`).
        offline: use only what is in the local hub cache; by default as `HF_HUB_OFFLINE` says.
        trust_remote_code: run Python code that comes with the model.

    Raises:
        ModelUnavailable: with one line that says what to do.
        ConfigError: for an unknown dtype or device, or a bad `spear.json`.
    """
    folder = local_folder(name_or_folder, offline, trust_remote_code)
    raw = read_config(name_or_folder, folder)
    settings = read_settings(folder)
    config = _causal_config(name_or_folder, folder, raw, trust_remote_code)
    stored, formats = stored_numbers(name_or_folder, folder)
    target = _target(device, config, lambda at: choose_dtype(dtype, at, stored, formats)[0])
    number, why = choose_dtype(dtype, target, stored, formats)
    # the configuration may describe more than the files hold, and memory is taken for all of it
    check_memory(name_or_folder, max(stored, parameters_of(config)) * number.itemsize, target)
    tokenizer = _tokenizer(name_or_folder, folder, trust_remote_code)
    model = _weights(name_or_folder, folder, config, number, trust_remote_code)
    rows = int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
    _fit_tokenizer(name_or_folder, tokenizer, rows)
    context_tokens = _context_tokens(config, tokenizer)
    if context_tokens < LEAST_CONTEXT_TOKENS:
        raise ModelUnavailable(
            f"{name_or_folder} takes {context_tokens} tokens at a time, too few for a question and a reply; choose a model "
            f"with at least {LEAST_CONTEXT_TOKENS}"
        )
    _own_memory(model)
    try:
        model.to(target)  # type: ignore[arg-type]
    except RuntimeError as e:
        raise ModelUnavailable(f"{name_or_folder} cannot be put on {device} ({one_line(e)}); use --device cpu") from e
    fuse_projections(model)
    model.eval()
    model.requires_grad_(False)
    loaded = LoadedModel(
        model=model,
        tokenizer=tokenizer,
        name=name_or_folder,
        fingerprint=fingerprint_of(folder),
        parameters=sum(p.numel() for p in model.parameters()),
        context_tokens=context_tokens,
        settings=settings,
    )
    log.info("loaded %s: %d parameters, %s on %s (%s)", loaded.name, loaded.parameters, number, target, why)
    return loaded


@dataclass(frozen=True)
class Weighed:
    """What a model would take and what there is, in bytes of the device's memory."""

    parameters: int
    needed_bytes: int
    free_bytes: int


def weigh_model(name_or_folder: str, *, device: str = "cpu", dtype: str = "auto") -> Weighed:
    """How much memory a model needs, read from its files' headers; nothing is loaded and nothing is downloaded.

    Raises ModelUnavailable, with one line, for what is not on this machine or is no model.
    """
    folder = local_folder(name_or_folder, True, False)
    config = _causal_config(name_or_folder, folder, read_config(name_or_folder, folder), False)
    stored, formats = stored_numbers(name_or_folder, folder)
    target = _target(device, config, lambda at: choose_dtype(dtype, at, stored, formats)[0])
    number, _ = choose_dtype(dtype, target, stored, formats)
    return Weighed(stored, int(stored * number.itemsize * MEMORY_MARGIN), free_bytes(target))


def weigh_gguf(file: Path, *, device: str = "cpu") -> Weighed:
    """The same for a GGUF file, which is kept in bfloat16 once it is converted; with `auto`, for the CPU."""
    target = _device("cpu" if device == AUTO else device)
    parameters = summary(file).parameters
    number, _ = choose_dtype("auto", target, parameters, frozenset({"BF16"}))
    return Weighed(parameters, int(parameters * number.itemsize * MEMORY_MARGIN), free_bytes(target))


def _target(device: str, config: PretrainedConfig, dtype_on: Callable[[torch.device], torch.dtype]) -> torch.device:
    return best_device(config, get_max_memory(), dtype_on) if device == AUTO else _device(device)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as e:
        raise ConfigError(f"unknown device {name}; use cpu, cuda, mps or auto") from e
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, False):
        raise ModelUnavailable(f"torch finds no {name} device on this machine; use --device cpu")
    return device


def _causal_config(name: str, folder: Path, raw: dict[str, Any], trust_remote_code: bool) -> PretrainedConfig:
    known = raw.get("model_type") in CONFIG_MAPPING
    if not known and not trust_remote_code:
        if "auto_map" in raw:
            raise ModelUnavailable(
                f"{name} needs Python code of its own, which this app never runs; choose another model"
            )
        raise ModelUnavailable(
            f"{name} is of type {raw.get('model_type')!r}, which the installed version of transformers does not support; "
            "update transformers or choose another model"
        )
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except LOADING_ERRORS as e:
        raise ModelUnavailable(f"{name}: config.json cannot be used ({one_line(e)}); download the model again") from e
    # An encoder such as BERT is in the causal mapping too, so the heads that the weights were saved with decide.
    heads = raw.get("architectures") or []
    causal = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
    wrong_heads = bool(heads) and not any(str(head).endswith(causal) for head in heads)
    unmapped = known and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING
    if config.is_encoder_decoder or wrong_heads or unmapped:
        kind = heads[0] if heads else raw.get("model_type")
        raise ModelUnavailable(f"{name} is a {kind}, which does not write text; choose a text-generation model")
    return config


def _tokenizer(name: str, folder: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    remedy = "download the model again with its tokenizer files"
    vocabularies = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
    if not trust_remote_code and not any((folder / file).is_file() for file in vocabularies):
        raise ModelUnavailable(f"{name} has no tokenizer; {remedy}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    except Exception as e:  # the Rust tokenizers raise bare Exception for a damaged file
        raise ModelUnavailable(f"{name}: the tokenizer cannot be loaded ({one_line(e)}); {remedy}") from e
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _fit_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Keep ids that the model has no embedding for out of all prompts; Gemma 3's tokenizer has one, for images.

    Raises ModelUnavailable where there are so many that the tokenizer must be another model's.
    """
    surplus = sum(i >= rows for i in tokenizer.get_vocab().values())
    if surplus > MOST_SURPLUS * len(tokenizer):
        raise ModelUnavailable(
            f"{name}: the tokenizer has {len(tokenizer)} tokens but the model only {rows}; "
            "use the tokenizer that belongs to the model"
        )
    if surplus:
        log.info("%s: %d tokens of the tokenizer have no embedding and are never used", name, surplus)
        limit_ids(tokenizer, rows)


def _weights(
    name: str, folder: Path, config: PretrainedConfig, dtype: torch.dtype, trust_remote_code: bool
) -> PreTrainedModel:
    logging_of_transformers.disable_progress_bar()  # it loads in seconds, and the bar stays in the terminal
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    except LOADING_ERRORS as e:
        raise ModelUnavailable(f"{name} cannot be loaded ({one_line(e)}); download the model again") from e
    model: PreTrainedModel
    model, report = loaded
    # transformers fills a missing tensor with random numbers and only warns
    if report["missing_keys"]:
        absent = sorted(report["missing_keys"])
        raise ModelUnavailable(
            f"{name}: the weights lack {len(absent)} tensors, such as {absent[0]}; download the model again"
        )
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters() if p.is_floating_point()):
        raise ModelUnavailable(f"{name}: the weights are damaged (not all are finite); download the model again")
    return model


def _own_memory(model: PreTrainedModel) -> None:
    """Copy the tensors out of the file, of which they are views where its dtype is the one asked for.

    Otherwise whoever rewrites the folder would change the weights of a running model, or end it with a bus error.
    """
    for tensor in (*model.parameters(), *model.buffers()):  # tied weights come once, and stay tied
        tensor.data = tensor.data.clone()


def _context_tokens(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    stated = getattr(config.get_text_config(), "max_position_embeddings", None)  # not every architecture has a limit
    if isinstance(stated, int) and stated > 0:
        return stated
    return tokenizer.model_max_length if tokenizer.model_max_length < 10_000_000 else FALLBACK_CONTEXT_TOKENS
