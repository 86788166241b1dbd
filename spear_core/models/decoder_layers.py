"""The decoder layers of a model, as transformers marks them. No training, no files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from spear_core.models.causal_model import CausalModel, unwrapped


def layer_list(backbone: nn.Module) -> tuple[str, nn.ModuleList] | None:
    """The backbone's list of decoder layers and its name; None where there is not exactly one."""
    lists = [
        (name, child)
        for name, child in backbone.named_children()
        if isinstance(child, nn.ModuleList) and len(child) and isinstance(child[0], GradientCheckpointingLayer)
    ]
    return lists[0] if len(lists) == 1 else None


def layers_of(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """The decoder layers, as transformers marks them; none of a model that has its own kind."""
    return [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside, without dropout; afterwards each module has the mode that it had."""
    were_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in were_training:
            module.training = True


@contextlib.contextmanager
def checkpointed(model: CausalModel) -> Iterator[None]:
    """Gradient checkpointing inside: a layer's activations are computed again in the backward pass, not kept.

    Dropout keeps its mode: only the layers' own switch is turned, not that of the modules in them.
    """
    causal, layers = unwrapped(model), layers_of(model)
    before = [layer.training for layer in layers]
    causal.activation_checkpointing_enable({"use_reentrant": False})
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        causal.activation_checkpointing_disable()
        for layer, was in zip(layers, before, strict=True):
            layer.training = was
