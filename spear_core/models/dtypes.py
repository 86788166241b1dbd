"""Which number format a model computes in, from what the device has in hardware. No model, no files."""

from __future__ import annotations

import torch

from spear_core.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
HALF_FORMATS = frozenset({"BF16", "F16"})  # as safetensors headers name them
SMALL_MODEL_PARAMETERS = 200_000_000  # below this, float32 weights stay float32: the memory is affordable


def has_bfloat16(device: torch.device) -> bool:
    """Does the device multiply bfloat16 matrices in hardware (AVX512-BF16 or AMX on a CPU)?"""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))
    return True


def choose_dtype(wanted: str, device: torch.device, parameters: int, stored: frozenset[str]) -> tuple[torch.dtype, str]:
    """The dtype and the reason in words. `wanted` is a key of DTYPES or `auto`; `stored` are the file's formats.

    auto: bfloat16 where the device has it in hardware, float32 where not; small models stored in float32 keep it.
    Raises ConfigError for an unknown name.
    """
    if wanted != "auto":
        if wanted not in DTYPES:
            raise ConfigError(f"unknown dtype {wanted}; use auto, {', '.join(DTYPES)}")
        return DTYPES[wanted], "as asked"
    if not has_bfloat16(device):
        return torch.float32, f"the {device.type} has no bfloat16 in hardware"
    if parameters < SMALL_MODEL_PARAMETERS and not stored <= HALF_FORMATS:
        return torch.float32, "a small model that is stored in float32"
    return torch.bfloat16, f"the {device.type} has it in hardware"
