"""The tensors of a LoRA adapter under PEFT's names: lora_A (r, in) and lora_B (out, r) for each adapted layer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from federation.canonical_json import canonical_json
from federation.errors import MergeImpossible, shown

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}  # safetensors' names
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")


def split_name(name: str) -> tuple[str, str]:
    """(module, "A" or "B"). Raises MergeImpossible for another kind of tensor."""
    match = _FACTOR.fullmatch(name)
    if match is None:
        raise MergeImpossible(f"tensor {shown(name)} is neither lora_A nor lora_B; only plain LoRA can be exchanged")
    return match["module"], match["factor"]


def pairs_of(names: Iterable[str]) -> list[tuple[str, str]]:
    """(name of A, name of B) for each layer, sorted. Raises MergeImpossible where one of the two is missing."""
    modules: dict[str, dict[str, str]] = {}
    for name in names:
        module, factor = split_name(name)
        modules.setdefault(module, {})[factor] = name
    for module, factors in modules.items():
        if len(factors) != 2:
            raise MergeImpossible(f"layer {shown(module)} has only one of lora_A and lora_B")
    return [(modules[module]["A"], modules[module]["B"]) for module in sorted(modules)]


def targets_of(names: Iterable[str]) -> tuple[str, ...]:
    """The kinds of layer that carry an adapter, such as ("down_proj", "q_proj"), sorted."""
    return tuple(sorted({split_name(name)[0].rpartition(".")[2] for name in names}))


def rank_of(state: Mapping[str, Tensor]) -> int:
    """The one rank of an adapter. Raises MergeImpossible where ranks differ or a tensor is no LoRA factor."""
    ranks = set()
    for name, tensor in state.items():
        factor = split_name(name)[1]
        if tensor.dim() != 2 or tensor.dtype not in DTYPE_NAMES:
            raise MergeImpossible(f"tensor {shown(name)} is not a matrix of float32, bfloat16 or float16")
        ranks.add(tensor.shape[0] if factor == "A" else tensor.shape[1])
    if len(ranks) != 1:
        raise MergeImpossible(f"an adapter of one rank is needed, and this one has ranks {sorted(ranks)}")
    return int(ranks.pop())


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in the order of names: the same adapter, the same 64 hex digits.

    Reads one tensor at a time. It does not depend on how a file lays them out, so it also names a parent.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous().cpu()
        digest.update(canonical_json([name, DTYPE_NAMES[tensor.dtype], list(tensor.shape)]).encode() + b"\n")
        digest.update(tensor.view(torch.uint8).numpy().data)
    return digest.hexdigest()
