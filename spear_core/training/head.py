"""The output head on the tokens that a loss needs, a chunk at a time. Tensor functions; the head is frozen, no model.

A token's log-probability depends on its own hidden state h alone, and its gradient there is a vector as small as h:
d log p(t) / dh = W[t] - softmax(W h) W. It is computed together with the log-probability, so that a chunk of logits
(tokens, V) lives only until the next chunk, the backward pass needs no logits at all, and nothing is computed twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK_BYTES = 32 * 2**20  # of float32 logits at a time


def chunk_tokens(vocabulary: int) -> int:
    """How many tokens' float32 logits fit into CHUNK_BYTES; at least 1."""
    return max(1, CHUNK_BYTES // (4 * vocabulary))


class _TargetLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        logps = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        hits = torch.empty(hidden.shape[0], dtype=torch.bool, device=hidden.device)
        jacobian = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        size = chunk_tokens(weight.shape[0])
        for start in range(0, hidden.shape[0], size):
            part = slice(start, start + size)
            logits = F.linear(hidden[part], weight, bias).float()  # (n, V)
            wanted = targets[part].unsqueeze(-1)
            logps[part] = (logits.gather(-1, wanted).squeeze(-1)) - torch.logsumexp(logits, dim=-1)
            hits[part] = logits.argmax(-1) == targets[part]
            if jacobian is not None:
                minus_p = logits.softmax(-1).neg_()
                minus_p.scatter_add_(-1, wanted, torch.ones_like(wanted, dtype=torch.float32))  # onehot - p
                jacobian[part] = minus_p.to(weight.dtype) @ weight  # (n, H)
        if jacobian is not None:
            ctx.save_for_backward(jacobian)
        ctx.mark_non_differentiable(hits)
        return logps, hits

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None, None]:
        (jacobian,) = ctx.saved_tensors
        return (gradients[0].unsqueeze(-1) * jacobian).to(jacobian.dtype), None, None, None


class _BaseKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, base: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        kl = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        same = torch.empty(hidden.shape[0], dtype=torch.bool, device=hidden.device)
        jacobian = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        size = max(1, chunk_tokens(weight.shape[0]) // 2)  # two sets of logits at a time
        for start in range(0, hidden.shape[0], size):
            part = slice(start, start + size)
            now = F.linear(hidden[part], weight, bias).float().log_softmax(-1)  # (n, V)
            was = F.linear(base[part], weight, bias).float().log_softmax(-1)
            kl[part] = (was.exp() * (was - now)).sum(-1)
            same[part] = was.argmax(-1) == now.argmax(-1)
            if jacobian is not None:
                jacobian[part] = (now.exp_() - was.exp_()).to(weight.dtype) @ weight  # dKL / dlogits = p - p_base
        if jacobian is not None:
            ctx.save_for_backward(jacobian)
        ctx.mark_non_differentiable(same)
        return kl, same

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None, None]:
        (jacobian,) = ctx.saved_tensors
        return (gradients[0].unsqueeze(-1) * jacobian).to(jacobian.dtype), None, None, None


def target_logps(hidden: Tensor, head: nn.Linear, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each target (float32 softmax), and whether it is the argmax: (N, H), (N,) -> (N,), (N,).

    Raises:
        ValueError: where the head itself is to be trained; only the hidden states get a gradient here.
    """
    _check_frozen(head)
    logps, hits = _TargetLogps.apply(hidden, head.weight, head.bias, targets)
    return logps, hits


def kl_from_base(hidden: Tensor, base: Tensor, head: nn.Linear) -> tuple[Tensor, Tensor]:
    """KL(base || now) of each token in nats, and whether the greedy choice is the same: (N, H), (N, H) -> (N,), (N,).

    From both models' hidden states: keeping a base model's costs H / V of keeping its log-probabilities, at 0.5B 170
    times less.

    Raises:
        ValueError: where the head itself is to be trained.
    """
    _check_frozen(head)
    kl, same = _BaseKL.apply(hidden, base, head.weight, head.bias)
    return kl, same


@torch.no_grad()
def greedy_choices(hidden: Tensor, head: nn.Linear) -> Tensor:
    """The most probable token after each hidden state, a chunk of logits at a time: (N, H) -> (N,)."""
    size = chunk_tokens(head.weight.shape[0])
    parts = [F.linear(part, head.weight, head.bias).argmax(-1) for part in hidden.split(size)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long, device=hidden.device)


def _check_frozen(head: nn.Linear) -> None:
    if head.weight.requires_grad or (head.bias is not None and head.bias.requires_grad):
        raise ValueError("the head is to be trained; use the model's own forward")
