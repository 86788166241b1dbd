"""One layer of a llama-like model as one function of tensors, compiled by TorchScript where Python's version allows.

- Compiled, a layer runs without Python's lock. As plain Python it gives the lock up at each of its twenty operations,
  and waits for it where other threads (readers of replies, a training step) are busy.
- TorchScript needs no compiler on the machine, unlike `torch.compile`. Where it is missing, the same functions run as
  plain Python, with the same results.

`fused_model.py` finds the weights and drives the layers.
"""

import logging
import math
import sys
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

log = logging.getLogger(__name__)
FEW_ROWS = 32  # up to so many, weights @ inputs is faster on a CPU than inputs @ weights (no reordering of the weights)
MOST_PYTHON = (3, 13)  # later versions have no TorchScript


class Projection(NamedTuple):
    """A linear map (N, I) -> (N, O), fused of one or more modules, with what LoRA adds to it."""

    weight: Tensor  # (O, I)
    bias: Tensor | None = None  # (O,)
    down: Tensor | None = None  # (R, I)
    up: Tensor | None = None  # (O, R), scaled


class LayerWeights(NamedTuple):
    """The weights of one layer, those that read the same input fused."""

    norm: Tensor  # (H,); float32 where the family multiplies before it rounds (`Sizes.rounds_last`)
    qkv: Projection
    head_norms: Tensor | None  # (heads + kv heads, D): of the queries and keys, where the family has them
    out: Projection
    mlp_norm: Tensor
    gate_up: Projection
    down: Projection


class Sizes(NamedTuple):
    """What is the same for all layers of a model."""

    heads: int
    kv_heads: int
    head_dim: int
    scale: float  # of the attention's scores
    epsilon: float  # of the norms
    rounds_last: bool  # gemma: a norm multiplies by its weight in float32
    is_gelu: bool  # the activation is GELU (tanh), not SiLU


def project(x: Tensor, p: Projection, few_rows: int = FEW_ROWS) -> Tensor:
    """(N, I) -> (N, O), or (I,) -> (O,). LoRA is computed in its own dtype, as PEFT does."""
    weight, bias, down, up = p.weight, p.bias, p.down, p.up
    if x.dim() == 1:
        y = torch.mv(weight, x) if bias is None else torch.addmv(bias, weight, x)
        if down is None or up is None:
            return y
        inner = torch.mv(down, x.to(down.dtype))  # (R,)
        return torch.addmv(y.to(down.dtype), up, inner).to(y.dtype)
    is_few = x.size(0) <= few_rows and bias is None and x.device.type == "cpu"
    y = torch.mm(weight, x.t()).t() if is_few else F.linear(x, weight, bias)
    if down is None or up is None:
        return y
    inner = torch.mm(x.to(down.dtype), down.t())  # (N, R)
    return torch.addmm(y.to(down.dtype), inner, up.t()).to(y.dtype)


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, rounds_last: bool) -> Tensor:
    """Root mean square norm: (..., D) -> (..., D)."""
    if rounds_last:
        return F.rms_norm(x.float(), [x.size(-1)], weight, epsilon).to(x.dtype)
    if x.dim() == 1 and x.device.type == "cpu":  # a third of the time of `rms_norm`
        length = float(torch.linalg.vector_norm(x, dtype=torch.float32))
        scale = 1.0 / math.sqrt(length * length / x.size(0) + epsilon)
        return (x * scale).mul_(weight)
    return F.rms_norm(x, [x.size(-1)], weight, epsilon)


def attend(
    x: Tensor,
    w: LayerWeights,
    s: Sizes,
    cos: Tensor,
    sin: Tensor,
    number: int,
    caches: list[Tensor],
    used: list[int],
    counts: list[int],
    masks: list[Tensor | None],
) -> Tensor:
    """(N, H) -> (N, heads * D), or (H,) -> (heads * D,). The new keys and values are put into the caches."""
    turned = s.heads + s.kv_heads
    # contiguous: left as a transposed product, attention would take its slow way, three times as long
    qkv = project(x, w.qkv).contiguous().view(-1, turned + s.kv_heads, s.head_dim)
    qk = qkv[:, :turned]
    norms = w.head_norms
    if norms is not None:
        qk = F.rms_norm(qk, [s.head_dim], None, s.epsilon) * norms
    # sin has the sign of the half it is for
    qk = torch.addcmul(qk * cos, torch.roll(qk, [s.head_dim // 2], [-1]), sin)
    queries, keys, values = qk[:, : s.heads], qk[:, s.heads :], qkv[:, turned:]
    outs: list[Tensor] = []
    start = 0
    for row in range(len(caches)):
        count = counts[row]
        end, total = start + count, used[row] + count
        cache = caches[row][number, :total]  # (T, 2 * kv heads, D)
        new = cache[used[row] :]
        new[:, : s.kv_heads].copy_(keys[start:end])
        new[:, s.kv_heads :].copy_(values[start:end])
        whole = cache.transpose(0, 1).unsqueeze(0)  # (1, 2 * kv heads, T, D)
        mask = masks[row]
        out = F.scaled_dot_product_attention(
            queries[start:end].transpose(0, 1).unsqueeze(0),  # (1, heads, n, D)
            whole[:, : s.kv_heads],
            whole[:, s.kv_heads :],
            attn_mask=mask,
            is_causal=mask is None and count > 1,
            scale=s.scale,
            enable_gqa=s.heads != s.kv_heads,
        )
        if x.dim() == 1:
            return out.view(-1)
        outs.append(out[0].transpose(0, 1).reshape(count, -1))
        start = end
    return outs[0] if len(outs) == 1 else torch.cat(outs)


def forward_layer(
    x: Tensor,
    w: LayerWeights,
    s: Sizes,
    cos: Tensor,
    sin: Tensor,
    number: int,
    caches: list[Tensor],
    used: list[int],
    counts: list[int],
    masks: list[Tensor | None],
) -> Tensor:
    """One layer over the flat run of all rows' new tokens.

    Args:
        x: hidden states (N, H), or (H,) where it is one token.
        w: the layer's weights.
        s: sizes, the same for all layers.
        cos: cosines of the tokens' positions, (N, 1, D).
        sin: their sines, with the sign of the half of the head that they are for.
        number: of the layer, its place in the caches.
        caches: one for each row, (layers, room, 2 * kv heads, D), keys first; written to.
        used: how many tokens each row's cache holds.
        counts: how many of the N tokens are each row's, in order.
        masks: (n, T) for each row that has tokens before several new ones, else None.
    """
    normed = rms_norm(x, w.norm, s.epsilon, s.rounds_last)
    x = x + project(attend(normed, w, s, cos, sin, number, caches, used, counts, masks), w.out)
    gate, up = project(rms_norm(x, w.mlp_norm, s.epsilon, s.rounds_last), w.gate_up).chunk(2, dim=-1)
    gate = F.gelu(gate, approximate="tanh") if s.is_gelu else F.silu(gate)
    return x + project(gate * up, w.down)


def forward_head(x: Tensor, norm: Tensor, head: Projection, s: Sizes) -> Tensor:
    """Hidden states (N, H) or (H,) -> logits (N, V) or (V,)."""
    return project(rms_norm(x, norm, s.epsilon, s.rounds_last), head)


def _compiled(function: Any) -> Any:
    if sys.version_info[:2] > MOST_PYTHON:
        return function
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its successors need a compiler, or Python's lock
            return torch.jit.script(function)
    except (RuntimeError, NotImplementedError, OSError) as e:  # OSError: no source to compile
        log.info("layers run as plain Python: TorchScript cannot compile them (%s)", str(e).strip().splitlines()[-1:])
        return function


run_layer = _compiled(forward_layer)
run_head = _compiled(forward_head)
