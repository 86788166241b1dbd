"""A decoder of four small layers with random weights, for the tokens of the pocket model."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaModel


def backbone(tokenizer: Any, hidden: int = 32) -> Any:
    """The same weights at each call."""
    torch.manual_seed(3)
    sizes = {"hidden_size": hidden, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
    return (
        LlamaModel(LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, **sizes)).requires_grad_(False).eval()
    )
