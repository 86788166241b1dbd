"""Models with the shape of published ones and random weights: built from a config, nothing downloaded.

Speed and memory depend on the shape, not on what a model knows. The numbers are those of the published config.json files.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen2Config

from spear_core.training.traces import Encoded

_QWEN25: dict[str, Any] = {
    "vocab_size": 151_936,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
SHAPES: dict[str, PretrainedConfig] = {
    "qwen2.5-0.5b": Qwen2Config(
        hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, **_QWEN25
    ),
    "qwen2.5-1.5b": Qwen2Config(
        hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12, **_QWEN25
    ),
    "llama-3.2-3b": LlamaConfig(
        vocab_size=128_256,
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=131_072,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500_000.0,
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    ),
    # for trying a benchmark out in a second; its figures mean nothing
    "tiny": LlamaConfig(
        vocab_size=1000, hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4
    ),
}
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def build(shape: str, device: str = "cpu", dtype: str = "bfloat16", layers: int | None = None, seed: int = 0) -> Any:
    """A frozen model in eval mode. `layers` cuts it to its first layers. Raises KeyError for an unknown shape."""
    config = type(SHAPES[shape]).from_dict(SHAPES[shape].to_dict())
    if layers is not None:
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):  # Llama's config has no such list
            config.layer_types = config.layer_types[:layers]
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype])
    return model.eval().requires_grad_(False)


def random_pairs(
    vocabulary: int, pairs: int, prompt_tokens: int, completion_tokens: int, seed: int
) -> tuple[list[Encoded], list[Encoded]]:
    """(wins, losing traces): pair by pair one prompt, and two completions of random tokens that all count."""
    rng = random.Random(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(vocabulary) for _ in range(count))

    wins: list[Encoded] = []
    loses: list[Encoded] = []
    for _ in range(pairs):
        prompt = tokens(prompt_tokens)
        for side in (wins, loses):
            side.append(Encoded(prompt, tokens(completion_tokens), (True,) * completion_tokens))
    return wins, loses
