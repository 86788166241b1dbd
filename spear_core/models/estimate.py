"""How large a model is that is not on this machine, from its configuration alone. No weights are read or made."""

from __future__ import annotations

from accelerate import init_empty_weights
from transformers import AutoModelForCausalLM, PretrainedConfig

from spear_core.errors import ModelUnavailable, one_line


def parameters_of(config: PretrainedConfig) -> int:
    """How many weights a model of this configuration has; shared ones, such as tied embeddings, count once.

    Raises:
        ModelUnavailable: with one sentence, where transformers makes no language model of it.
    """
    try:
        with init_empty_weights():
            model = AutoModelForCausalLM.from_config(config)
        model.tie_weights()
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as e:
        raise ModelUnavailable(
            f"its configuration describes no language model that can be loaded ({one_line(e)})"
        ) from e
    return sum(parameter.numel() for parameter in model.parameters())
