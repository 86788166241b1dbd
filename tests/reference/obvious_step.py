"""The obvious training step: each side a full forward, logits over the whole vocabulary everywhere. Slow on purpose.

It is what the fast step (spear_core/training/scoring.py) is compared with: by the tests for equality, by
`python -m benchmarks.train_step` for speed and memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spear_core.training.losses import lose_loss, win_loss
from spear_core.training.traces import Encoded


def obvious_logps(model: Any, examples: Sequence[Encoded], pad_id: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities of all tokens but the first, and the loss mask: (B, T-1) each. Padded on the right."""
    device = next(model.parameters()).device
    width = max(len(e.prompt_ids) + len(e.completion_ids) for e in examples)
    ids = torch.full((len(examples), width), pad_id, device=device)
    attended = torch.zeros(len(examples), width, dtype=torch.long, device=device)
    mask = torch.zeros(len(examples), width, device=device)
    for row, e in enumerate(examples):
        start, end = len(e.prompt_ids), len(e.prompt_ids) + len(e.completion_ids)
        ids[row, :end] = torch.tensor([*e.prompt_ids, *e.completion_ids], device=device)
        attended[row, :end] = 1
        mask[row, start:end] = torch.tensor(e.mask, dtype=torch.float32, device=device)
    logits = model(input_ids=ids, attention_mask=attended, use_cache=False).logits  # (B, T, V)
    logps = torch.log_softmax(logits[:, :-1].float(), dim=-1)  # (B, T-1, V)
    return logps.gather(-1, ids[:, 1:].unsqueeze(-1)).squeeze(-1), mask[:, 1:]


def obvious_losses(
    model: Any, wins: Sequence[Encoded], loses: Sequence[Encoded], pad_id: int, margin: float
) -> tuple[Tensor, Tensor]:
    """(L_win, L_lose) of arXiv 2605.07977 for a batch; one forward a side."""
    win_logps, win_mask = obvious_logps(model, wins, pad_id)
    lose_logps, lose_mask = obvious_logps(model, loses, pad_id)
    return (
        win_loss(win_logps, win_mask, _confidence(wins, win_logps.device)),
        lose_loss(lose_logps, lose_mask, _confidence(loses, lose_logps.device), margin),
    )


def _confidence(examples: Sequence[Encoded], device: torch.device) -> Tensor:
    return torch.tensor([e.confidence for e in examples], device=device)
