"""Logits of completions, for many prompts at once. The one place that knows how rows are padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from spear_core.traces import Encoded


def micro_batches(examples: Sequence[Encoded], size: int) -> Iterator[Sequence[Encoded]]:
    for start in range(0, len(examples), size):
        yield examples[start : start + size]


def completion_logits(model: Any, examples: Sequence[Encoded], pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits at the completion tokens: (B, C, V), their targets (B, C) and where a token stands (B, C).

    Prompts are padded on the left and completions on the right, so that all completions begin in one column and the
    model's own forward makes logits for those columns only (`logits_to_keep`), with whatever scaling it applies.
    """
    device = next(model.parameters()).device
    prompt_width = max(len(e.prompt_ids) for e in examples)
    width = max(len(e.completion_ids) for e in examples)
    rows, attended = [], []
    for e in examples:
        left, right = prompt_width - len(e.prompt_ids), width - len(e.completion_ids)
        rows.append([pad_id] * left + [*e.prompt_ids, *e.completion_ids] + [pad_id] * right)
        attended.append([0] * left + [1] * (len(e.prompt_ids) + len(e.completion_ids)) + [0] * right)
    ids = torch.tensor(rows, device=device)  # (B, P + C)
    attention = torch.tensor(attended, device=device)
    positions = (attention.cumsum(-1) - 1).clamp(min=0)
    out = model(
        input_ids=ids, attention_mask=attention, position_ids=positions, use_cache=False, logits_to_keep=width + 1
    )
    logits = out.logits[:, -(width + 1) : -1]  # (B, C, V): the position before a token predicts it
    return logits, ids[:, prompt_width:], attention[:, prompt_width:].bool()


def mask_of(examples: Sequence[Encoded], width: int, device: torch.device) -> Tensor:
    """The examples' loss masks as floats, padded to (B, C)."""
    return torch.tensor([[*map(float, e.mask)] + [0.0] * (width - len(e.mask)) for e in examples], device=device)


def confidence_of(examples: Sequence[Encoded], device: torch.device) -> Tensor:
    return torch.tensor([e.confidence for e in examples], device=device)  # (B,)
