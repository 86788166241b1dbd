"""Where a fleet begins: the first adapter that all its apps share, and what updates of it must say. No network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from federation.aggregate import AdapterState
from federation.errors import FederationError
from federation.factors import digest_of


@dataclass(frozen=True)
class Start:
    """The first adapter of every app in the fleet.

    Attributes:
        adapter: its tensors under PEFT's names.
        base: fingerprint of the base model, 16 hex digits.
        alpha: LoRA's alpha, which no tensor's shape tells.
    """

    adapter: AdapterState
    base: str
    alpha: int

    @property
    def words(self) -> dict[str, str | int]:
        """What a ClientApp must know to write an update that an app takes."""
        return {"base": self.base, "alpha": self.alpha, "parent": digest_of(self.adapter)}


def write_start(path: Path, adapter: Mapping[str, Tensor], base: str, alpha: int) -> None:
    """Raises FederationError where the file exists or cannot be written."""
    if path.exists():
        raise FederationError(f"{path} exists; nothing was written")
    try:
        state = {name: tensor.contiguous() for name, tensor in adapter.items()}
        save_file(state, path, {"base": base, "alpha": str(alpha)})
    except (OSError, SafetensorError) as e:
        raise FederationError(f"{path} cannot be written ({e})") from e


def read_start(path: Path) -> Start:
    """Raises FederationError where the file is missing or was not written by `write_start`."""
    try:
        with safe_open(path, framework="pt") as file:
            words = file.metadata() or {}
            return Start({name: file.get_tensor(name) for name in file.keys()}, words["base"], int(words["alpha"]))  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as e:
        raise FederationError(
            f"{path} is not a fleet's start ({e}); make it beside an app: app.py data first-adapter FILE"
        ) from e
