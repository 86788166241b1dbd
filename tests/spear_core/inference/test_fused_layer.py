"""A layer computes the same compiled and as plain Python, and attention takes its fast way also for rows in company."""

from __future__ import annotations

import sys

import pytest
import torch

from spear_core.inference import fused_layer, fused_model
from spear_core.inference.fused_model import FusedModel
from tests.spear_core.inference.test_fused_model import KINDS, PROMPT, adapted, build, lean

DTYPES = (torch.float32, torch.bfloat16)


def steps(fused: FusedModel, rows: int) -> torch.Tensor:
    """Logits after a prompt a row, and after three more tokens a row."""
    caches = [fused.new_cache(20) for _ in range(rows)]
    prompts = [PROMPT[row % 3 :] for row in range(rows)]
    made = [fused.extend([(c, 0, p) for c, p in zip(caches, prompts, strict=True)])]
    for step in range(3):
        made.append(fused.extend([(c, len(p) + step, [9 + step]) for c, p in zip(caches, prompts, strict=True)]))
    return torch.stack(made)


@pytest.mark.skipif(sys.version_info[:2] > fused_layer.MOST_PYTHON, reason="this Python has no TorchScript")
def test_layers_are_compiled() -> None:
    assert isinstance(fused_layer.run_layer, torch.jit.ScriptFunction)
    assert isinstance(fused_layer.run_head, torch.jit.ScriptFunction)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_and_plain_give_the_same_logits(
    kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = lean(adapted(build(kind, dtype)))
    compiled = [steps(fused, rows) for rows in (1, 3)]
    monkeypatch.setattr(fused_model, "run_layer", fused_layer.forward_layer)
    monkeypatch.setattr(fused_model, "run_head", fused_layer.forward_head)
    for rows, given in zip((1, 3), compiled, strict=True):
        assert torch.allclose(given, steps(fused, rows), rtol=1e-5, atol=1e-5 * float(given.abs().max()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 4])
def test_attention_of_each_row_takes_the_fast_way(dtype: torch.dtype, rows: int) -> None:
    fused = lean(build("llama", dtype))
    steps(fused, rows)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        steps(fused, rows)
    seen = {event.key for event in profile.key_averages()}
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in seen
    assert "aten::_scaled_dot_product_attention_math" not in seen


def test_another_activation_is_left_to_the_model_itself() -> None:
    model = build("llama")
    for layer in model.model.layers:
        layer.mlp.act_fn = torch.nn.ReLU()
    assert FusedModel.of(model) is None
