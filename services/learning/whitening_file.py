"""What the comparison of questions takes of a base model, kept in the data folder: two seconds of processor time a start.

It is computed from the weights and the model's own starter questions; nobody's words are in it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

log = logging.getLogger(__name__)
FOLDER = "question-features"


def whitening_path(data_folder: Path, base: str, reference: Sequence[str]) -> Path:
    """The file for a base model, by its fingerprint, and these starter questions."""
    asked = hashlib.sha256(json.dumps(list(reference)).encode()).hexdigest()
    return data_folder / FOLDER / f"{base}-{asked[:16]}.safetensors"


def read_whitening(path: Path, hidden: int) -> tuple[Tensor, Tensor] | None:
    """Mean (hidden,) and map (hidden, hidden), float32; None where there is no such file, or not of these shapes."""
    if not path.is_file():
        return None
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as e:
        log.warning("%s is computed again: %s", path.name, e)
        return None
    mean, map_ = found.get("mean"), found.get("map")
    if mean is None or map_ is None or mean.shape != (hidden,) or map_.shape != (hidden, hidden):
        return None
    both = mean.clone(), map_.clone()  # the file is mapped; a changed file would change what was read
    return both if all(t.dtype == torch.float32 and bool(t.isfinite().all()) for t in both) else None


def write_whitening(path: Path, whitening: tuple[Tensor, Tensor]) -> None:
    """Keep it; a disk that is full or cannot be written costs the next start two seconds and nothing else."""
    mean, map_ = whitening
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"mean": mean.float().contiguous(), "map": map_.float().contiguous()}, temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as e:
        log.warning("what compares questions is not kept: %s", e)
