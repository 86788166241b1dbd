"""Losses for SPEAR. Pure tensor functions; no model, no I/O.

L = lambda_win * L_win + lambda_lose * L_lose + anchor_weight * KL   (arXiv 2605.07977; the KL term is ours).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

# p is kept this far below 1 so that -log(1 - p) and its gradient stay finite.
MAX_PROBABILITY = 1.0 - 1e-6
# The longest common runs of two answers take time in the product of their lengths; beyond it only ends are compared.
MOST_COMPARED = 512 * 512


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of each target under float32 softmax: logits (..., V), targets (...) -> (...)."""
    logits = logits.float()
    chosen = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return chosen - torch.logsumexp(logits, dim=-1)


def win_loss(logps: Tensor, mask: Tensor, confidence: Tensor, tokens: float | None = None) -> Tensor:
    """Maximum likelihood on the right completions: sum(c m nll) / sum(m).

    logps, mask: (B, C); confidence: (B,). `tokens` replaces sum(m) where the batch is one part of a larger one.
    c is not in the denominator: a trace of confidence 0.5 pulls half as hard, it is not rescaled to 1.
    """
    total = mask.sum() if tokens is None else torch.as_tensor(tokens)
    return -(logps * mask * confidence.unsqueeze(-1)).sum() / total.clamp(min=1)


def lose_loss(logps: Tensor, mask: Tensor, confidence: Tensor, margin: float, tokens: float | None = None) -> Tensor:
    """Confidence-weighted unlikelihood: sum(c m [p > margin] * -log(1 - p)) / sum(m).

    logps, mask: (B, C); confidence: (B,). Tokens at or below the margin are left alone but stay in the denominator.
    The authors multiply by the batch's mean confidence instead; pass that mean for every row to have their form.
    """
    p = logps.exp().clamp(max=MAX_PROBABILITY)
    unlikelihood = -torch.log1p(-p) * (p.detach() > margin)  # (B, C)
    total = mask.sum() if tokens is None else torch.as_tensor(tokens)
    return (unlikelihood * mask * confidence.unsqueeze(-1)).sum() / total.clamp(min=1)


def anchor_kl(base_logps: Tensor, logits: Tensor, mask: Tensor, tokens: float | None = None) -> Tensor:
    """KL(base || adapter), mean over anchor tokens, in nats: base_logps, logits (B, C, V); mask (B, C)."""
    logps = torch.log_softmax(logits.float(), dim=-1)
    kl = (base_logps.exp() * (base_logps - logps)).sum(-1)  # (B, C)
    total = mask.sum() if tokens is None else torch.as_tensor(tokens)
    return (kl * mask).sum() / total.clamp(min=1)


def tail_mask(
    completion: Sequence[int], tail_tokens: int, end_ids: Collection[int], protected: Collection[int] = ()
) -> list[bool]:
    """Which losing tokens unlikelihood may touch: the last `tail_tokens` (all when 0) before EOS, none protected.

    EOS stays out before the tail is taken: penalising it would teach the model never to stop.
    """
    open_positions = [i for i, token in enumerate(completion) if token not in end_ids]
    tail = set(open_positions[-tail_tokens:] if tail_tokens else open_positions)
    return [i in tail and token not in protected for i, token in enumerate(completion)]


def distinguishing_mask(lose: Sequence[int], win: Sequence[int], end_ids: Collection[int]) -> list[bool]:
    """The losing tokens that its win does not share, by the longest common runs of both; of two long answers, the
    tokens between their common beginning and their common end.

    Never EOS. What both answers say is not what was wrong with the loser.
    """
    shared = [False] * len(lose)
    if len(lose) * len(win) > MOST_COMPARED:
        begin = _alike(lose, win)
        end = _alike(lose[begin:][::-1], win[begin:][::-1])
        shared[:begin], shared[len(lose) - end :] = [True] * begin, [True] * end
        return [not same and token not in end_ids for same, token in zip(shared, lose, strict=True)]
    for block in difflib.SequenceMatcher(a=list(lose), b=list(win), autojunk=False).get_matching_blocks():
        shared[block.a : block.a + block.size] = [True] * block.size
    return [not same and token not in end_ids for same, token in zip(shared, lose, strict=True)]


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """With how many equal tokens both begin."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
