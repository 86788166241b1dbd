"""The files of a base model, in a folder or on the Hugging Face Hub: found, checked and weighed before any is loaded.

Weights are safetensors only: a pickle can run code, so it is refused even where transformers would take it.
"""

from __future__ import annotations

import hashlib
import json
import os
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
from huggingface_hub.utils._validators import validate_repo_id

from spear_core.errors import ModelUnavailable, one_line

MEMORY_MARGIN = 1.2
HASH_WHOLE_BYTES = 1 << 30  # weights up to 1 GiB are hashed whole, larger ones by samples
SAMPLE_BLOCKS, SAMPLE_BYTES = 64, 1 << 20
# Notes of whoever saved the folder; they change nothing that the model computes.
VOLATILE_CONFIG_KEYS = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "auto_map"}


def local_folder(name: str, offline: bool | None, trust_remote_code: bool) -> Path:
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


def _whole_in_cache(name: str, wanted: list[str], elsewhere: list[str]) -> Path | None:
    """The model's folder in the Hub's cache where all of it is there: then the Hub is not asked."""
    try:
        folder = Path(snapshot_download(name, local_files_only=True, allow_patterns=wanted, ignore_patterns=elsewhere))
        read_config(name, folder)
        stored_numbers(name, folder)
    except (LocalEntryNotFoundError, ModelUnavailable, OSError, ValueError):
        return None
    return folder


def _from_hub(name: str, offline: bool | None, trust_remote_code: bool) -> Path:
    if offline is None:
        offline = constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    wanted = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", *(["*.py"] if trust_remote_code else [])]
    elsewhere = ["*/*", "consolidated*"]  # copies of the weights in other layouts
    try:
        if not offline and (here := _whole_in_cache(name, wanted, elsewhere)):
            return here
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
        raise ModelUnavailable(f"{name} could not be downloaded ({one_line(e)}); try again, or give a folder") from e


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
        check_memory(name, sum(file.file_size or 0 for file in weights) // 2, torch.device("cpu"))


def read_config(name: str, folder: Path) -> dict[str, Any]:
    """config.json as it is written, before transformers fills in its defaults."""
    file = folder / "config.json"
    if (folder / "adapter_config.json").is_file():  # transformers would load it on top, pickles too
        if not file.is_file():
            raise ModelUnavailable(f"{name} is an adapter, not a model; give the base model that it was trained on")
        raise ModelUnavailable(f"{name} holds a model and an adapter; give a folder that holds only the model")
    if not file.is_file():
        raise ModelUnavailable(f"{name} is not a model folder (no config.json); give the folder that holds the model")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as e:
        raise ModelUnavailable(f"{name}: config.json is damaged ({one_line(e)}); download the model again") from e
    if not isinstance(raw, dict):
        raise ModelUnavailable(f"{name}: config.json is not a JSON object; download the model again")
    return raw


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
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as e:
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
    except (ValueError, KeyError, AttributeError, TypeError, IndexError, RecursionError) as e:
        raise ModelUnavailable(damaged) from e
    except OSError as e:
        raise ModelUnavailable(f"{name}: {file.name} cannot be read ({one_line(e)}); check its permissions") from e


def stored_numbers(name: str, folder: Path) -> tuple[int, frozenset[str]]:
    """How many numbers the weight files hold, and in which of safetensors' formats, such as `BF16`.

    Raises:
        ModelUnavailable: where a file is missing, damaged or incomplete.
    """
    headers = [_header_of(name, file) for file in _weight_files(name, folder)]
    entries = [entry for header in headers for entry in header.values()]
    return sum(entry["shape"].numel() for entry in entries), frozenset(entry["dtype"] for entry in entries)


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
    raw = read_config(name, folder)
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


def free_bytes(device: torch.device) -> int:
    """Free memory of the device, in bytes."""
    return int(torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available)


def check_memory(name: str, weight_bytes: int, device: torch.device) -> None:
    """Raises ModelUnavailable where a model of this size would not fit into the free memory."""
    available = free_bytes(device)
    if weight_bytes * MEMORY_MARGIN > available:
        raise ModelUnavailable(
            f"{name} needs about {weight_bytes * MEMORY_MARGIN / 1e9:.1f} GB of memory and {available / 1e9:.1f} GB "
            "are free; close other programs or choose a smaller model"
        )
