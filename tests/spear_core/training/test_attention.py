"""The attention of training: the same values as torch's kernel to the last bit, and the same gradients up to rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from spear_core.config import SpearConfig
from spear_core.models.causal_model import unwrapped
from spear_core.models.shared_base import SharedBaseModels
from spear_core.training import attention


def module(groups: int) -> nn.Module:
    made = nn.Module()
    made.num_key_value_groups = groups  # type: ignore[assignment]
    made.is_causal = True  # type: ignore[assignment]
    return made.eval()


def inputs(groups: int, length: int, masks: int = 1, dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    """Query, key, value, and a mask under which a row holds two texts that do not see each other."""
    torch.manual_seed(3)
    query, key, value = (torch.randn(2, heads, length, 8).to(dtype) for heads in (2 * groups, 2, 2))
    seen = torch.ones(length, length).tril().bool()
    seen[length // 2 :, : length // 2] = False
    mask = torch.zeros(2, masks, length, length, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    return [*(t.requires_grad_() for t in (query, key, value)), mask]


def attended(attend: Any, groups: int, given: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    query, key, value, mask = given
    out = attend(module(groups), query, key, value, mask, scaling=0.3, dropout=0.0)[0]
    weight = torch.linspace(-1, 1, out.numel()).view_as(out).to(out.dtype)
    return out, list(torch.autograd.grad((out * weight).sum(), (query, key, value)))


@pytest.mark.parametrize(("groups", "length", "masks"), [(1, 12, 1), (3, 12, 1), (3, 12, 6), (3, 40, 1)])
def test_values_are_the_kernels_and_gradients_are_those_of_float32(groups: int, length: int, masks: int) -> None:
    given = inputs(groups, length, masks)
    out, grads = attended(attention.attend, groups, given)
    assert out.grad_fn is not None and "PlainBackward" in type(out.grad_fn).__name__
    kernel, kernels = attended(sdpa_attention_forward, groups, given)
    assert torch.equal(out, kernel)
    exact = attended(sdpa_attention_forward, groups, [t.detach().float().requires_grad_() for t in given])[1]
    for ours, theirs, true in zip(grads, kernels, exact, strict=True):
        error, usual = (float((g.float() - true).norm() / true.norm()) for g in (ours, theirs))
        assert error < max(2 * usual, 0.01)


@pytest.mark.parametrize("change", ["float32", "long", "dropout", "no mask"])
def test_what_it_is_not_for_goes_to_the_kernel(change: str) -> None:
    length = attention.LONGEST_ROW + 1 if change == "long" else 6
    query, key, value, mask = inputs(1, length, dtype=torch.float32 if change == "float32" else torch.bfloat16)
    given = None if change == "no mask" else mask
    dropout = 0.1 if change == "dropout" else 0.0
    out, _ = attention.attend(module(1), query, key, value, given, dropout=dropout)
    assert out.grad_fn is not None and "PlainBackward" not in type(out.grad_fn).__name__


def test_the_training_model_uses_it_and_the_base_model_does_not() -> None:
    torch.manual_seed(1)
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    config = LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, attn_implementation="sdpa")
    base = LlamaForCausalLM(config).bfloat16().eval()
    models = SharedBaseModels(base, SpearConfig(lora_rank=2))
    kinds = [m.config._attn_implementation for m in (unwrapped(models.training), models.base, base)]
    assert kinds == [attention.NAME, "sdpa", "sdpa"]
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        assert torch.equal(models.training(input_ids=ids).logits, models.base(input_ids=ids).logits)
