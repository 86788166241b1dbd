"""What the group-relative algorithms share: rewards compared within the samples of one prompt. Pure tensor functions."""

from __future__ import annotations

import torch
from torch import Tensor

MIN_DEVIATION = 1e-4


def group_advantages(rewards: Tensor) -> Tensor:
    """(r - mean) / (std + 1e-4) within each group, unbiased std as TRL has it: (P, G) -> (P, G)."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True) + MIN_DEVIATION)


def kl_estimate(logps: Tensor, reference: Tensor) -> Tensor:
    """Schulman's k3 estimate of KL(policy || reference), token by token: exp(ref - lp) - (ref - lp) - 1, never negative."""
    difference = reference - logps
    return torch.exp(difference) - difference - 1


def sequence_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over each sequence's tokens, then over the sequences: (B, C), (B, C) -> ()."""
    return ((values * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()
