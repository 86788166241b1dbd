"""How large a model is that is not on this machine, from its configuration alone. No weights are read or made."""

from __future__ import annotations

from accelerate import init_empty_weights
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from spear_core.errors import ModelUnavailable, one_line


def parameters_of(config: PretrainedConfig) -> int:
    """How many weights a model of this configuration has; shared ones, such as tied embeddings, count once.

    Raises:
        ModelUnavailable: with one sentence, where transformers makes no language model of it.
    """
    return sum(parameter.numel() for parameter in empty_model(config).parameters())


def empty_model(config: PretrainedConfig) -> PreTrainedModel:
    """The model of a configuration, without weights: its tensors have shapes and no memory. Raises as `parameters_of`."""
    try:
        with init_empty_weights():
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        model.tie_weights()
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as e:
        raise ModelUnavailable(
            f"its configuration describes no language model that can be loaded ({one_line(e)})"
        ) from e
    return model
