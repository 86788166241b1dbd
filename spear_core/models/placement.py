"""Which device a model is put on where that is left to the app: an accelerator that holds all of it, else the CPU.

accelerate lays the model out over the memory there is, without weights. A model that would be cut in two is not cut: what
serves and what trains share one copy of the weights, and layers that travel between devices would be slower than the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from accelerate import infer_auto_device_map
from transformers import PretrainedConfig

from spear_core.models.estimate import empty_model
from spear_core.models.files import MEMORY_MARGIN

AUTO = "auto"
CPU = torch.device("cpu")


def best_device(
    config: PretrainedConfig, memory: Mapping[int | str, int], dtype_on: Callable[[torch.device], torch.dtype]
) -> torch.device:
    """The first accelerator whose free memory holds the whole model with room to work, else the CPU.

    Args:
        config: of the model. Nothing is loaded.
        memory: free bytes of each device, as accelerate's `get_max_memory` names them: a number is a CUDA device.
        dtype_on: the number format that the model would have on a device.

    Raises:
        ModelUnavailable: with one sentence, where transformers makes no language model of the configuration.
    """
    accelerators = [name for name in memory if name not in ("cpu", "disk")]
    if not accelerators:
        return CPU
    model = empty_model(config)
    for name in accelerators:
        device = torch.device("cuda", name) if isinstance(name, int) else torch.device(name)
        room = {name: int(memory[name] / MEMORY_MARGIN)}
        placed = infer_auto_device_map(model, max_memory=room, dtype=dtype_on(device))
        if set(placed.values()) == {name}:
            return device
    return CPU
