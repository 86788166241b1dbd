"""In which dtype LoRA computes on a bfloat16 model. No training, no files."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from transformers import PreTrainedModel

from spear_core.models.causal_model import CausalModel, unwrapped


def compute_dtype(causal: PreTrainedModel) -> contextlib.AbstractContextManager[Any]:
    """Around a forward of a bfloat16 model: LoRA's float32 factors are then multiplied as bfloat16 too.

    Left alone PEFT makes float32 of the activations for them, in every adapted map, which costs more than the products.
    The factors and their gradients stay float32.
    """
    if causal.dtype != torch.bfloat16 or not is_lora_cast(causal):
        return contextlib.nullcontext()
    return torch.autocast(next(causal.parameters()).device.type, dtype=torch.bfloat16)


def is_lora_cast(causal: PreTrainedModel) -> bool:
    """Whether `cast_lora` was called for this model."""
    return bool(getattr(causal, "_lora_follows_autocast", False))


def cast_lora(model: CausalModel) -> None:
    """Let the adapted maps of a model take the activations as they come wherever autocast is on."""
    causal = unwrapped(model)
    causal._lora_follows_autocast = True  # type: ignore[assignment]
    for module in causal.modules():
        if isinstance(module, BaseTunerLayer):
            module._cast_input_dtype = _as_it_comes  # type: ignore[method-assign, assignment]


def _as_it_comes(x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if x is None or x.dtype == dtype or torch.is_autocast_enabled(x.device.type):
        return x
    return x.to(dtype)
