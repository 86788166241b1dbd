"""An adapter as a GGUF file, which llama.cpp loads beside the base model's own GGUF file (`--lora`).

Format: https://github.com/ggml-org/llama.cpp/blob/master/convert_lora_to_gguf.py writes the same. llama.cpp multiplies with
alpha / rank, as PEFT does. Written with the gguf package; nothing is read here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFType, GGUFWriter, Keys, get_tensor_name_map
from gguf.constants import MODEL_ARCH_NAMES
from torch import Tensor
from transformers import PretrainedConfig

from spear_core.errors import AdapterInvalid
from spear_core.models.gguf_files import ARCHITECTURES
from spear_core.models.shared_base import AdapterState

PREFIX = "base_model.model."
SIDES = {".lora_A.weight": ".lora_a", ".lora_B.weight": ".lora_b"}
# llama.cpp rotates pairs of neighbours in this architecture, transformers the two halves of a head
INTERLEAVED = ("llama",)


def write_gguf_adapter(file: Path, state: AdapterState, config: PretrainedConfig, alpha: float) -> None:
    """Write an adapter of a model with this configuration.

    Args:
        file: replaced where it exists.
        state: PEFT's names -> A (rank, in) and B (out, rank).
        config: of the base model, for the names of its matrices.
        alpha: the LoRA's; its rank is in the shapes.

    Raises:
        AdapterInvalid: for an architecture, or a matrix, that llama.cpp has no name for.
    """
    names = {ours: theirs for theirs, ours in ARCHITECTURES.items()}
    architecture = names.get(config.model_type)
    if architecture is None:
        raise AdapterInvalid(f"an adapter of a {config.model_type} model cannot be written for llama.cpp here")
    known = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == architecture)
    tensor_names = get_tensor_name_map(known, config.num_hidden_layers)
    writer = GGUFWriter(file, architecture)
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, float(alpha))
    for name in sorted(state):
        module, side = _parts(name)
        theirs = tensor_names.get_name(module)
        if theirs is None:
            raise AdapterInvalid(f"llama.cpp has no name for {module}")
        values = state[name].float().cpu()
        if architecture in INTERLEAVED and side == ".lora_b":
            values = _interleaved(values, module, config)
        writer.add_tensor(f"{theirs}.weight{side}", np.ascontiguousarray(values.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _parts(name: str) -> tuple[str, str]:
    for ours, theirs in SIDES.items():
        if name.startswith(PREFIX) and name.endswith(ours):
            return name.removeprefix(PREFIX).removesuffix(ours), theirs
    raise AdapterInvalid(f"{name} is no LoRA matrix of a linear map")


def _interleaved(b: Tensor, module: str, config: PretrainedConfig) -> Tensor:
    """B (out, rank) with the rows of each head in the order in which llama.cpp keeps the base model's."""
    heads = {
        "q_proj": config.num_attention_heads,
        "k_proj": getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
    }.get(module.rpartition(".")[2])
    if heads is None:
        return b
    rows, rank = b.shape
    return b.reshape(heads, 2, rows // heads // 2, rank).swapaxes(1, 2).reshape(rows, rank)
