"""The type of model that is generated with and trained: a causal language model of transformers. No loading, no computing."""

from __future__ import annotations

from typing import cast

from peft import PeftModel
from transformers import PreTrainedModel

CausalModel = PreTrainedModel | PeftModel  # without an adapter, or with PEFT's wrapper around it


def unwrapped(model: CausalModel) -> PreTrainedModel:
    """The model inside PEFT's wrapper. It is made of the same modules, so its layers still compute with the adapter."""
    return cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model
