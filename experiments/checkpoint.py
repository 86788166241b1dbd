"""A run's state on disk: one safetensors file, written whole or not at all, and the lines of its rounds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from federation.flower.strategy import ServerState

FILE = "checkpoint.safetensors"
ROUNDS = "rounds.jsonl"
_PARTS = ("adapter", "first_moment", "second_moment")


def save(folder: Path, state: ServerState, digest: str, lines: list[dict[str, Any]]) -> None:
    """After a round: temporary name, fsync, rename. `rounds.jsonl` is written after it, and written again when resuming."""
    tensors = {f"{part}/{n}": t.contiguous() for part in _PARTS for n, t in getattr(state, part).items()}
    temporary = folder / f".{FILE}.tmp"
    save_file(tensors, temporary, metadata={"digest": digest, "lines": json.dumps(lines)})
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(folder / FILE)
    write_lines(folder, lines)


def write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    temporary = folder / f".{ROUNDS}.tmp"
    temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    temporary.replace(folder / ROUNDS)


def load(folder: Path, digest: str) -> tuple[ServerState, list[dict[str, Any]]] | None:
    """The last whole state of a run with these settings; None where there is none, or one with other settings."""
    if not (folder / FILE).exists():
        return None
    with safe_open(folder / FILE, framework="pt") as file:
        metadata = file.metadata()
        if metadata["digest"] != digest:
            return None
        found: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}
        for key in file.keys():  # noqa: SIM118 - a safetensors handle is no mapping
            part, _, name = key.partition("/")
            found[part][name] = file.get_tensor(key)
    return ServerState(**found), json.loads(metadata["lines"])
