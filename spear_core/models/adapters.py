"""Adapters on disk: an ordinary PEFT folder plus a manifest, written whole or not at all. No training, no database."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from spear_core.errors import AdapterInvalid, AdapterUnwritable
from spear_core.models.shared_base import AdapterState

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
MANIFEST = "manifest.json"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def save_adapter(folder: Path, state: AdapterState, lora: LoraConfig, base_name: str, manifest: dict[str, Any]) -> str:
    """Write the PEFT folder with its manifest to a temporary name, fsync, rename. Returns the sha256 of the weights.

    An unfinished folder of an earlier, killed attempt under the same name is replaced. Raises AdapterUnwritable, after
    which nothing of it is left.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        return _write(temporary, folder, state, lora, base_name, manifest)
    except (OSError, SafetensorError) as e:  # safetensors has an error of its own for a full disk
        shutil.rmtree(temporary, ignore_errors=True)
        raise AdapterUnwritable(
            f"the new adapter cannot be written to {folder.parent} ({getattr(e, 'strerror', None) or e}); free some disk "
            "space or check the disk"
        ) from e


def _write(
    temporary: Path, folder: Path, state: AdapterState, lora: LoraConfig, base_name: str, manifest: dict[str, Any]
) -> str:
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    # contiguous and sorted: the same adapter gives the same bytes
    save_file({k: state[k].contiguous() for k in sorted(state)}, temporary / WEIGHTS, metadata={"format": "pt"})
    lora.inference_mode = True
    lora.base_model_name_or_path = base_name
    lora.save_pretrained(str(temporary))
    digest = sha256_of(temporary / WEIGHTS)
    (temporary / MANIFEST).write_text(json.dumps({**manifest, "sha256": digest}, indent=2, sort_keys=True) + "\n")
    for file in temporary.iterdir():
        _sync(file)
    _sync(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    _sync(folder.parent)
    return digest


@dataclass(frozen=True)
class AdapterShape:
    """What must agree for an adapter to be trained on: rank, alpha, and which layers it sits in (`lora_layers`)."""

    rank: int
    alpha: int
    layers: str = "all"

    @property
    def words(self) -> str:
        where = "all layers" if self.layers == "all" else f"the {self.layers.replace('_', ' ')} of the layers"
        return f"rank {self.rank} and alpha {self.alpha} in {where}"


def lora_shape(folder: Path) -> AdapterShape | None:
    """The shape of an adapter that was trained here; None where its folder does not say."""
    try:
        config = json.loads((folder / CONFIG).read_text())
        manifest = json.loads((folder / MANIFEST).read_text())
        return AdapterShape(int(config["r"]), int(config["lora_alpha"]), str(manifest.get("lora_layers", "all")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_adapter(folder: Path, sha256: str) -> AdapterState:
    """The adapter's tensors. Raises AdapterInvalid where the folder is missing, damaged or not the recorded one."""
    weights = folder / WEIGHTS
    try:
        if not weights.is_file():
            raise AdapterInvalid(f"adapter folder {folder.name} is missing its weights")
        if sha256_of(weights) != sha256:
            raise AdapterInvalid(
                f"adapter folder {folder.name} is damaged: its weights are not those that were recorded"
            )
        # cloned: load_file maps the file, and a file that changes under a mapping changes the running model
        return {name: tensor.clone() for name, tensor in load_file(weights).items()}
    except (OSError, SafetensorError) as e:
        raise AdapterInvalid(f"adapter folder {folder.name} cannot be read: {e}") from e
