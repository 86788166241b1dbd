"""Attention for training on a CPU: forward by torch's fused kernel, backward by plain products. No model is changed here.

In bfloat16 the kernel's own backward pass takes ten times its forward pass on short rows
(findings/sdpa_backward_on_short_rows.sh), this one a quarter of that on rows of 64 tokens, half on rows of 128.
What a model computes stays the same to the last bit: only gradients are made another way.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

NAME = "sdpa_with_plain_backward"
LONGEST_ROW = 192  # tokens; from about 256 on the kernel's backward pass is the quicker one


def use_plain_backward(model: PreTrainedModel) -> None:
    """Let a model that attends by the fused kernel, on a CPU, train this way; any other is left alone."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    if on_cpu and getattr(model.config, "_attn_implementation", "") == "sdpa":
        model.config._attn_implementation = NAME


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **how: Any
) -> tuple[Tensor, None]:
    """transformers' attention function: query (B, heads, T, D), key and value (B, groups, T, D); gives (B, T, heads, D)."""
    plain = (
        torch.is_grad_enabled()
        and query.dtype == torch.bfloat16
        and attention_mask is not None
        and attention_mask.is_floating_point()
        and query.shape[2] == key.shape[2] <= LONGEST_ROW
        and not how.get("dropout")
        and all(how.get(name) is None for name in ("softcap", "position_bias", "cache", "s_aux"))
    )
    if not plain:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **how)
    out: Tensor = _PlainBackward.apply(module, query, key, value, attention_mask, how)  # type: ignore[no-untyped-call]
    return out, None


class _PlainBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor,
        how: dict[str, Any],
    ) -> Tensor:
        scaling = how.get("scaling")
        ctx.scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        out: Tensor = sdpa_attention_forward(module, query, key, value, mask, **how)[0]
        ctx.save_for_backward(query, key, value, mask, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        query, key, value, mask, out = ctx.saved_tensors
        batch, heads, length, size = query.shape
        rows = (batch, key.shape[1], -1, size)  # the heads of a group share its keys and values
        q, of_out = query.reshape(rows), grads[0].transpose(1, 2).reshape(rows)
        weights = (q @ key.mT).float()  # (B, groups, heads / groups * T, T)
        weights.view(batch, heads, length, length).mul_(ctx.scaling).add_(mask)
        weights = weights.softmax(-1)
        mean = (of_out * out.transpose(1, 2).reshape(rows)).sum(-1, keepdim=True, dtype=torch.float32)
        of_scores = (of_out @ value.mT).float().sub_(mean).mul_(weights).mul_(ctx.scaling).to(query.dtype)
        of_query = (of_scores @ key).view_as(query)
        return None, of_query, of_scores.mT @ q, weights.to(query.dtype).mT @ of_out, None, None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
