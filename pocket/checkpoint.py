"""The state of a training run on disk: one safetensors file, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

FILE = "state.safetensors"


def save(file: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], step: int) -> None:
    """Write weights, optimiser states and the step under a temporary name, flush them, then rename.

    Tensors get the keys `model/NAME` and `optimizer/INDEX/PARAMETER/NAME`; everything else is JSON in the metadata.
    """
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    plain: list[dict[str, Any]] = []
    for index, optimizer in enumerate(optimizers):
        found = optimizer.state_dict()
        numbers: dict[str, dict[str, Any]] = {}
        for parameter, values in found["state"].items():
            for name, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{index}/{parameter}/{name}"] = value
                else:
                    numbers.setdefault(str(parameter), {})[name] = value
        plain.append({"groups": found["param_groups"], "numbers": numbers})
    metadata = {"step": str(step), "optimizers": json.dumps(plain)}
    temporary = file.with_suffix(".tmp")
    # clones: safetensors refuses tensors that share memory, as tied embeddings do
    save_file(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, temporary, metadata
    )
    with temporary.open("rb+") as written:
        os.fsync(written.fileno())
    temporary.replace(file)


def load(file: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> int:
    """Put back what `save` wrote and return the step.

    Raises:
        safetensors.SafetensorError: the file is damaged.
        RuntimeError, ValueError: it belongs to another model or other optimisers.
    """
    weights: dict[str, Tensor] = {}
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
        plain = json.loads(metadata["optimizers"])
        states: list[dict[int, dict[str, Any]]] = [
            {int(parameter): dict(values) for parameter, values in one["numbers"].items()} for one in plain
        ]
        for key in opened.keys():  # noqa: SIM118 - a safetensors handle is no mapping
            kind, _, rest = key.partition("/")
            if kind == "model":
                weights[rest] = opened.get_tensor(key)
            else:
                index, parameter, name = rest.split("/")
                states[int(index)].setdefault(int(parameter), {})[name] = opened.get_tensor(key)
    model.load_state_dict(weights)
    for optimizer, state, one in zip(optimizers, states, plain, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": one["groups"]})
    return int(metadata["step"])
