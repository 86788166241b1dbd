"""A base model from a folder or the Hugging Face Hub, checked before it is loaded. No adapter, no generation.

Weights are read from safetensors only: a pickle can run code, so it is refused even where transformers would take it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psutil
import torch
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    DryRunError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
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

from spear_core.dtypes import choose_dtype
from spear_core.errors import ConfigError, ModelUnavailable
from spear_core.starter import ANCHOR_PROMPTS, ANCHOR_REVISIONS, PROBE_PROMPTS

log = logging.getLogger(__name__)

SETTINGS_FILE = "spear.json"
MEMORY_MARGIN = 1.2
HASH_WHOLE_BYTES = 1 << 30  # weights up to 1 GiB are hashed whole, larger ones by samples
SAMPLE_BLOCKS, SAMPLE_BYTES = 64, 1 << 20
FALLBACK_CONTEXT_TOKENS = 2048
LEAST_CONTEXT_TOKENS = 64  # a quarter of it is the least that encode_prompt takes for a question
# Notes of whoever saved the folder; they change nothing that the model computes.
VOLATILE_CONFIG_KEYS = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "auto_map"}
LOADING_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError, SafetensorError)


@dataclass(frozen=True)
class ModelSettings:
    """What a model folder may say about itself in `spear.json`; everything is optional.

    Attributes:
        revise_with_hint: what the user's turn says when a revision is asked for; must contain `{hint}`.
        revise_without_hint: the same when there is no hint.
        max_new_tokens: the longest reply, in tokens.
        examples: questions that an empty chat offers.
        anchor_prompts: prompts on which training holds the model to its earlier answers.
        anchor_revisions: (prompt, hint) pairs: how the model revises its answer to the prompt is held too, so that it goes
            on following hints.
        probe_prompts: prompts on which the gate measures drift; none of them may be an anchor, or the gate would
            measure what training has been told to keep.

    Raises:
        ConfigError: for a value of the wrong kind or out of range.
    """

    revise_with_hint: str = "Please improve your answer. Hint: {hint}\nReply with the improved answer only."
    revise_without_hint: str = "Please improve your answer.\nReply with the improved answer only."
    max_new_tokens: int = 256
    examples: tuple[str, ...] = (
        "What is the capital of Australia?",
        "Explain photosynthesis in two sentences.",
        "Write a polite reply that declines an invitation.",
    )
    anchor_prompts: tuple[str, ...] = ANCHOR_PROMPTS
    anchor_revisions: tuple[tuple[str, str], ...] = ANCHOR_REVISIONS
    probe_prompts: tuple[str, ...] = PROBE_PROMPTS

    def __post_init__(self) -> None:
        for name in ("revise_with_hint", "revise_without_hint"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise ConfigError(f"{name} must be a text that is not empty")
        if "{hint}" not in self.revise_with_hint:
            raise ConfigError("revise_with_hint must contain {hint}, the place where the hint goes")
        if type(self.max_new_tokens) is not int or self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens must be a whole number from 1 up, not {self.max_new_tokens!r}")
        for name in ("examples", "anchor_prompts", "probe_prompts"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(isinstance(text, str) for text in value):
                raise ConfigError(f"{name} must be a list of texts")
        if not all(
            isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
            for pair in self.anchor_revisions
        ):
            raise ConfigError("anchor_revisions must be a list of pairs: a prompt and a hint")
        if both := set(self.anchor_prompts) & set(self.probe_prompts):
            raise ConfigError(f"{min(both)!r} is both an anchor and a probe; keep it in one of the two lists")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ModelSettings:
        """Build from JSON values; lists become tuples.

        Raises:
            ConfigError: for a key that is not a setting, with the nearest one that is, or for a bad value.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                advice = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
                raise ConfigError(f"unknown key {key}; {advice}")
        return cls(**{key: _as_tuples(value) for key, value in values.items()})


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value


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
        device: a torch device name.
        dtype: `float32`, `bfloat16`, `float16`, or `auto`, by what the device has in hardware (`choose_dtype`).
        offline: use only what is in the local hub cache; by default as `HF_HUB_OFFLINE` says.
        trust_remote_code: run Python code that comes with the model.

    Raises:
        ModelUnavailable: with one line that says what to do.
        ConfigError: for an unknown dtype or device, or a bad `spear.json`.
    """
    target = _device(device)
    folder = _local_folder(name_or_folder, offline, trust_remote_code)
    raw = _read_config(name_or_folder, folder)
    settings = read_settings(folder)
    config = _causal_config(name_or_folder, folder, raw, trust_remote_code)
    files = _weight_files(name_or_folder, folder)
    headers = [_header_of(name_or_folder, file) for file in files]
    stored = sum(torch.Size(entry["shape"]).numel() for header in headers for entry in header.values())
    formats = frozenset(entry["dtype"] for header in headers for entry in header.values())
    number, why = choose_dtype(dtype, target, stored, formats)
    _check_memory(name_or_folder, stored * number.itemsize, target)
    tokenizer = _tokenizer(name_or_folder, folder, trust_remote_code)
    model = _weights(name_or_folder, folder, config, number, trust_remote_code)
    rows = int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
    if len(tokenizer) > rows:
        raise ModelUnavailable(
            f"{name_or_folder}: the tokenizer has {len(tokenizer)} tokens but the model only {rows}; "
            "use the tokenizer that belongs to the model"
        )
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
        raise ModelUnavailable(f"{name_or_folder} cannot be put on {device} ({_line(e)}); use --device cpu") from e
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
    log.info("loaded %s: %d parameters, %s on %s (%s)", loaded.name, loaded.parameters, number, device, why)
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
    target = _device(device)
    folder = _local_folder(name_or_folder, True, False)
    _causal_config(name_or_folder, folder, _read_config(name_or_folder, folder), False)
    headers = [_header_of(name_or_folder, file) for file in _weight_files(name_or_folder, folder)]
    stored = sum(torch.Size(entry["shape"]).numel() for header in headers for entry in header.values())
    formats = frozenset(entry["dtype"] for header in headers for entry in header.values())
    number, _ = choose_dtype(dtype, target, stored, formats)
    return Weighed(stored, int(stored * number.itemsize * MEMORY_MARGIN), _free_bytes(target))


def read_settings(folder: Path) -> ModelSettings:
    """The settings in `spear.json`, or the defaults where there is none.

    Raises:
        ConfigError: if the file is not a JSON object, or has an unknown key or a bad value.
    """
    file = folder / SETTINGS_FILE
    if not file.is_file():
        return ModelSettings()
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as e:
        raise ConfigError(f"{file} is not JSON ({_line(e)}); correct it or remove it") from e
    if not isinstance(values, dict):
        raise ConfigError(f"{file} must hold one JSON object")
    try:
        return ModelSettings.from_mapping(values)
    except ConfigError as e:
        raise ConfigError(f"{file}: {e}") from e


def fingerprint_of(folder: Path) -> str:
    """16 hex digits that two folders share when they hold the same model, wherever they lie.

    A SHA-256 over the configuration, less the notes that change nothing, and over the weight files: their names,
    sizes and, up to 1 GiB in all, their bytes. Of larger ones only the safetensors header (every tensor's name,
    dtype, shape and place) and 64 evenly spaced blocks of 1 MiB a file are read: enough to tell apart models that
    were trained differently, since training moves every matrix, and not a proof against a forger.

    Raises:
        ModelUnavailable: if the folder has no readable configuration or weights.
    """
    name = str(folder)
    raw = _read_config(name, folder)
    kept = {key: value for key, value in raw.items() if key not in VOLATILE_CONFIG_KEYS}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode())
    files = _weight_files(name, folder)
    whole = sum(file.stat().st_size for file in files) <= HASH_WHOLE_BYTES
    for file in files:
        size = file.stat().st_size
        digest.update(f"\0{file.name}\0{size}\0".encode())
        with file.open("rb") as stream:
            if whole:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
                continue
            header = int.from_bytes(stream.read(8), "little")
            digest.update(stream.read(header))
            for block in range(SAMPLE_BLOCKS):
                stream.seek(8 + header + (size - 8 - header) * block // SAMPLE_BLOCKS)
                digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def _line(error: BaseException) -> str:
    """An error's text, on one line and short enough to stand inside another message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as e:
        raise ConfigError(f"unknown device {name}; use cpu, cuda or mps") from e
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, False):
        raise ModelUnavailable(f"this machine offers torch no {name} device; use --device cpu")
    return device


def _local_folder(name: str, offline: bool | None, trust_remote_code: bool) -> Path:
    """The folder that holds the model, downloaded or from the hub's cache where `name` is a hub id."""
    try:
        folder = Path(name).expanduser()
        if folder.is_dir():
            return folder
        is_file = folder.exists()
    except (OSError, RuntimeError) as e:  # too long a name, a folder that may not be entered, ~nobody
        raise ModelUnavailable(f"{name[:80]!r} cannot be looked at ({type(e).__name__}); check the path") from e
    if is_file:
        raise ModelUnavailable(f"{name} is a file; give the folder that holds config.json and the weights")
    if not name.isprintable():
        raise ModelUnavailable(f"there is no folder {name[:80]!r}; check the path")
    try:
        validate_repo_id(name)
    except HFValidationError as e:
        raise ModelUnavailable(f"there is no folder {name}; check the path, or give a hub id such as owner/name") from e
    if name.startswith((".", "~")):
        raise ModelUnavailable(f"there is no folder {name}; check the path")
    return _from_hub(name, offline, trust_remote_code)


def _from_hub(name: str, offline: bool | None, trust_remote_code: bool) -> Path:
    if offline is None:
        offline = constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    wanted = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", *(["*.py"] if trust_remote_code else [])]
    elsewhere = ["*/*", "consolidated*"]  # copies of the weights in other layouts
    try:
        if not offline:
            _check_hub_files(name, elsewhere)
        return Path(snapshot_download(name, local_files_only=offline, allow_patterns=wanted, ignore_patterns=elsewhere))
    except ModelUnavailable:
        raise
    except GatedRepoError as e:
        raise ModelUnavailable(
            f"{name} is gated; accept its terms on its hub page and log in with `hf auth login`"
        ) from e
    except RepositoryNotFoundError as e:
        raise ModelUnavailable(f"there is no folder and no public model {name} on the hub; check the spelling") from e
    except LocalEntryNotFoundError as e:
        reason = "offline mode is on" if offline else "the hub cannot be reached"
        raise ModelUnavailable(
            f"{name} is not a folder here nor in the local cache, and {reason}; connect once to download it, "
            "or give a folder"
        ) from e
    except Exception as e:  # the hub client lets errors of its HTTP library through, which is not ours to import
        raise ModelUnavailable(f"{name} could not be downloaded ({_line(e)}); try again, or give a folder") from e


def _check_hub_files(name: str, elsewhere: list[str]) -> None:
    """Refuse before anything large is downloaded: pickles, and what cannot fit into memory in any dtype."""
    try:
        files = snapshot_download(
            name, dry_run=True, allow_patterns=["*.safetensors", "*.bin", "*.pth"], ignore_patterns=elsewhere
        )
    except DryRunError:  # not reachable: the cache may have it, and the download itself says best why not
        return
    weights = [file for file in files if file.filename.endswith(".safetensors")]
    if not weights:
        raise _no_safetensors(name, pickles=bool(files))
    if any(file.will_download for file in weights):
        # float32 on the hub would be halved by bfloat16 here
        _check_memory(name, sum(file.file_size or 0 for file in weights) // 2, torch.device("cpu"))


def _read_config(name: str, folder: Path) -> dict[str, Any]:
    """config.json as it is written, before transformers fills in its defaults."""
    file = folder / "config.json"
    if not file.is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelUnavailable(f"{name} is an adapter, not a model; give the base model that it was trained on")
        raise ModelUnavailable(f"{name} is not a model folder (no config.json); give the folder that holds the model")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as e:
        raise ModelUnavailable(f"{name}: config.json is damaged ({_line(e)}); download the model again") from e
    if not isinstance(raw, dict):
        raise ModelUnavailable(f"{name}: config.json is not a JSON object; download the model again")
    return raw


def _causal_config(name: str, folder: Path, raw: dict[str, Any], trust_remote_code: bool) -> PretrainedConfig:
    known = raw.get("model_type") in CONFIG_MAPPING
    if not known and not trust_remote_code:
        if "auto_map" in raw:
            raise ModelUnavailable(
                f"{name} needs Python code of its own, which this app never runs; choose another model"
            )
        raise ModelUnavailable(
            f"{name} is of type {raw.get('model_type')!r}, which this transformers does not know; "
            "update transformers or choose another model"
        )
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    except LOADING_ERRORS as e:
        raise ModelUnavailable(f"{name}: config.json cannot be used ({_line(e)}); download the model again") from e
    # An encoder such as BERT is in the causal mapping too, so the heads that the weights were saved with decide.
    heads = raw.get("architectures") or []
    causal = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
    wrong_heads = bool(heads) and not any(str(head).endswith(causal) for head in heads)
    unmapped = known and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING
    if config.is_encoder_decoder or wrong_heads or unmapped:
        kind = heads[0] if heads else raw.get("model_type")
        raise ModelUnavailable(f"{name} is a {kind}, not a causal language model; choose a text-generation model")
    return config


def _no_safetensors(name: str, pickles: bool) -> ModelUnavailable:
    if pickles:
        return ModelUnavailable(
            f"{name} has only pickle weights, which can run code and are never loaded; "
            "convert it to safetensors or choose another model"
        )
    return ModelUnavailable(f"{name} has no weights (no .safetensors file); download the model again")


def _weight_files(name: str, folder: Path) -> list[Path]:
    """The safetensors files that make up the model, sorted by name."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise _no_safetensors(name, any(p.suffix in {".bin", ".pt", ".pth"} for p in folder.iterdir()))
    try:
        shards = {str(shard) for shard in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (ValueError, KeyError, AttributeError, TypeError) as e:
        raise ModelUnavailable(f"{name}: {index.name} is damaged; download the model again") from e
    for shard in sorted(shards):
        if Path(shard).name != shard or not (folder / shard).is_file():
            raise ModelUnavailable(f"{name}: the weight file {shard} is missing; download the model again")
    return [folder / shard for shard in sorted(shards)]


def _header_of(name: str, file: Path) -> dict[str, Any]:
    """What a safetensors header says of each tensor (dtype, shape), once the file is as long as the header says.

    The layout is eight bytes of header length, a JSON header, then the data (https://github.com/huggingface/safetensors).
    """
    damaged = f"{name}: {file.name} is damaged or incomplete; download the model again"
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > file.stat().st_size:
                raise ModelUnavailable(damaged)
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        if file.stat().st_size != 8 + length + end:
            raise ModelUnavailable(damaged)
        return {name: {"dtype": str(e["dtype"]), "shape": torch.Size(e["shape"])} for name, e in header.items()}
    except (ValueError, KeyError, AttributeError, TypeError, IndexError) as e:
        raise ModelUnavailable(damaged) from e
    except OSError as e:
        raise ModelUnavailable(f"{name}: {file.name} cannot be read ({_line(e)}); check its permissions") from e


def _free_bytes(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available)


def _check_memory(name: str, weight_bytes: int, device: torch.device) -> None:
    available = _free_bytes(device)
    if weight_bytes * MEMORY_MARGIN > available:
        raise ModelUnavailable(
            f"{name} needs about {weight_bytes * MEMORY_MARGIN / 1e9:.1f} GB of memory and {available / 1e9:.1f} GB "
            "are free; close other programs or choose a smaller model"
        )


def _tokenizer(name: str, folder: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    remedy = "download the model again with its tokenizer files"
    vocabularies = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
    if not trust_remote_code and not any((folder / file).is_file() for file in vocabularies):
        raise ModelUnavailable(f"{name} has no tokenizer; {remedy}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    except Exception as e:  # the Rust tokenizers raise bare Exception for a damaged file
        raise ModelUnavailable(f"{name}: the tokenizer cannot be loaded ({_line(e)}); {remedy}") from e
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _weights(
    name: str, folder: Path, config: PretrainedConfig, dtype: torch.dtype, trust_remote_code: bool
) -> PreTrainedModel:
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
        raise ModelUnavailable(f"{name} cannot be loaded ({_line(e)}); download the model again") from e
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
