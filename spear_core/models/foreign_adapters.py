"""LoRA adapters that were trained elsewhere with PEFT, as an adapter of this instance that computes the same.

This instance serves one rank, one scale and the LoRA matrices of certain layers. What another adapter has less of (a lower
rank, fewer layers, fewer matrices) is filled up so that nothing is added to the model there; another scale is folded into
B. What it has more of, or computes in another way, is refused in a sentence that names it. No files.

FIELDS says of every field of PEFT's LoraConfig (peft 0.21) what becomes of it; a test fails when PEFT has a new one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from spear_core.errors import AdapterInvalid
from spear_core.models.shared_base import AdapterState


class Treatment(Enum):
    """What is done with a field of PEFT's configuration."""

    HONOURED = "part of the scale or the rank, and computed with"
    IN_TENSORS = "says which matrices there are, which the tensors say too"
    NO_EFFECT = "matters for training or loading only"
    DEFAULT_ONLY = "changes what the adapter computes; refused unless it is off"


H, T, N, D = Treatment.HONOURED, Treatment.IN_TENSORS, Treatment.NO_EFFECT, Treatment.DEFAULT_ONLY
FIELDS: dict[str, Treatment] = {
    "peft_type": H,
    "r": H,
    "lora_alpha": H,
    "use_rslora": H,
    "rank_pattern": H,
    "alpha_pattern": H,
    "init_lora_weights": H,
    "bias": H,
    "target_modules": T,
    "exclude_modules": T,
    "layers_to_transform": T,
    "layers_pattern": T,
    "task_type": N,
    "auto_mapping": N,
    "peft_version": N,
    "base_model_name_or_path": N,
    "revision": N,
    "inference_mode": N,
    "lora_dropout": N,
    "fan_in_fan_out": N,  # how the base layer stores its weight; A and B are stored alike
    "loftq_config": N,  # these configure initialisations, of which init_lora_weights names the one that was used
    "eva_config": N,
    "corda_config": N,
    "lora_ga_config": N,
    "megatron_core": N,
    "qalora_group_size": N,
    "runtime_config": N,
    "ensure_weight_tying": N,  # of modules_to_save and the embedding, both refused
    "megatron_config": D,
    "modules_to_save": D,
    "trainable_token_indices": D,
    "use_dora": D,
    "velora_config": D,
    "alora_invocation_tokens": D,
    "use_qalora": D,
    "monteclora_config": D,
    "layer_replication": D,
    "lora_bias": D,
    "target_parameters": D,
    "use_bdlora": D,
    "arrow_config": D,
    "kasa_config": D,
}
# Initialisations that leave the base model as it is. The others (PiSSA, OLoRA, CorDA, LoftQ ...) change its weights, and
# the adapter is then meant for the changed ones; PEFT can convert them (path_initial_model_for_weight_conversion).
HARMLESS_INITS = (True, False, None, "gaussian", "eva", "orthogonal")
MAX_PATTERN_CHARACTERS = 200
MAX_REPETITIONS = 3  # *, + and the like in one pattern: more can take a matcher minutes
_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


@dataclass(frozen=True)
class ForeignConfig:
    """What of an adapter_config.json the arithmetic depends on."""

    rank: int
    alpha: float
    use_rslora: bool
    rank_pattern: Mapping[str, float]
    alpha_pattern: Mapping[str, float]

    def rank_of(self, module: str) -> float:
        return self.rank_pattern.get(_first_match(self.rank_pattern, module), self.rank)

    def scale_of(self, module: str) -> float:
        """What PEFT multiplies B A x with: alpha / rank, or alpha / sqrt(rank) for rsLoRA (arXiv 2312.03732)."""
        alpha = self.alpha_pattern.get(_first_match(self.alpha_pattern, module), self.alpha)
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def read_config(config: object) -> ForeignConfig:
    """An adapter_config.json, parsed. Raises AdapterInvalid for what this instance would compute otherwise than PEFT."""
    if not isinstance(config, dict):
        raise AdapterInvalid("adapter_config.json holds no settings")
    if config.get("peft_type") != "LORA":
        raise AdapterInvalid(f"the adapter is of type {_short(config.get('peft_type'))}; only LORA can be served")
    for name, value in config.items():
        treatment = FIELDS.get(name) if isinstance(name, str) else None
        if treatment is None and value:
            raise AdapterInvalid(f"the adapter uses {_short(name)}, which is not known here")
        if treatment is Treatment.DEFAULT_ONLY and value:
            raise AdapterInvalid(f"the adapter uses {name} = {_short(value)}, which cannot be served here")
    if (bias := config.get("bias", "none")) != "none":
        raise AdapterInvalid(f"the adapter changes biases (bias = {_short(bias)}), which cannot be served here")
    if (init := config.get("init_lora_weights", True)) not in HARMLESS_INITS:
        raise AdapterInvalid(
            f"the adapter was initialised by {_short(init)}, which changes the base model; convert it with PEFT first"
        )
    if not isinstance(config.get("use_rslora", False), bool):
        raise AdapterInvalid("use_rslora must be true or false")
    return ForeignConfig(
        rank=int(_number(config.get("r"), "r", whole=True)),
        alpha=_number(config.get("lora_alpha"), "lora_alpha"),
        use_rslora=bool(config.get("use_rslora", False)),
        rank_pattern=_pattern(config.get("rank_pattern"), "rank_pattern", whole=True),
        alpha_pattern=_pattern(config.get("alpha_pattern"), "alpha_pattern"),
    )


def fit(tensors: Mapping[str, Tensor], config: ForeignConfig, initial: AdapterState, scale: float) -> AdapterState:
    """The adapter in this instance's shapes.

    Args:
        tensors: PEFT's names -> A (rank, in) and B (out, rank).
        config: what PEFT's configuration says of rank, scale and layers.
        initial: this instance's first adapter. Where the other one has nothing, its A is taken with B = 0: that adds
            nothing to the model, and can be trained on.
        scale: alpha / rank of this instance.

    Returns:
        New tensors with the names, shapes and dtypes of `initial`.

    Raises:
        AdapterInvalid: for a matrix that this instance does not adapt, a rank above its own, or another model's shape.
    """
    _check_names(tensors, initial)
    state: AdapterState = {}
    for name, ours in initial.items():
        found = _TENSOR.fullmatch(name)
        if found is None or found["side"] == "B":
            continue
        module, name_b = found["module"], name.removesuffix("lora_A.weight") + "lora_B.weight"
        a, b = ours.clone(), torch.zeros_like(initial[name_b])
        if name in tensors:
            factor = config.scale_of(module) / scale
            rank = _check_shapes(module, tensors[name], tensors[name_b], ours, initial[name_b], config)
            a[:rank] = tensors[name].to(a)
            b[:, :rank] = (tensors[name_b].float() * factor).to(b)
        state[name], state[name_b] = a, b
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise AdapterInvalid("the adapter holds values that are not finite numbers")
    return {name: state[name] for name in initial}


def _check_names(tensors: Mapping[str, Tensor], initial: AdapterState) -> None:
    """Every tensor is one half of a LoRA that this instance has too. Raises AdapterInvalid."""
    if not tensors:
        raise AdapterInvalid("the adapter holds no tensors")
    for name in sorted(tensors):
        if _TENSOR.fullmatch(name) is None:
            raise AdapterInvalid(f"the adapter holds {_short(name)}, which is no LoRA matrix of a linear map")
    extra = sorted(tensors.keys() - initial.keys())
    if extra:
        modules = sorted({name.rpartition(".lora_")[0].removeprefix("base_model.model.") for name in extra})
        some = ", ".join(_short(module) for module in modules[:3])
        raise AdapterInvalid(
            f"the adapter changes {len(modules)} matrices that are not adapted here, such as {some}: the model is another "
            'one, or lora_layers under [spear] leaves these layers out ("all" has every layer)'
        )
    for name in sorted(tensors):
        half = {"A": "B", "B": "A"}[name[-len("A.weight")]]
        if f"{name.removesuffix('A.weight').removesuffix('B.weight')}{half}.weight" not in tensors:
            raise AdapterInvalid(f"the adapter holds {_short(name)} without its other half")


def _check_shapes(module: str, a: Tensor, b: Tensor, our_a: Tensor, our_b: Tensor, config: ForeignConfig) -> int:
    """The rank of one LoRA. Raises AdapterInvalid."""
    if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1]:
        raise AdapterInvalid(f"the two matrices of {module} do not belong together")
    if (a.shape[1], b.shape[0]) != (our_a.shape[1], our_b.shape[0]):
        raise AdapterInvalid(
            f"{module} maps {our_a.shape[1]} to {our_b.shape[0]} numbers in this model and {a.shape[1]} to {b.shape[0]} in the "
            "adapter: it was trained on another model"
        )
    rank = int(a.shape[0])
    if rank != config.rank_of(module):
        raise AdapterInvalid(f"{module} has rank {rank}, and adapter_config.json says {config.rank_of(module):g}")
    if rank > our_a.shape[0]:
        raise AdapterInvalid(
            f"{module} has rank {rank}, and this instance works with rank {our_a.shape[0]}: set lora_rank = {rank} under "
            "[spear], with another --data-folder"
        )
    return rank


def _first_match(patterns: Mapping[str, float], module: str) -> str:
    """The first pattern that the module's name ends with, as PEFT looks them up; "" for none."""
    return next((key for key in patterns if re.match(rf"(.*\.)?({key})$", module)), "")


def _pattern(value: Any, name: str, *, whole: bool = False) -> dict[str, float]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise AdapterInvalid(f"{name} must name modules and numbers")
    for key in value:
        repetitions = sum(key.count(sign) for sign in "*+?{")
        nested = re.search(r"\)\s*[*+?{]", key) is not None
        try:
            re.compile(key)
        except (re.error, RecursionError, OverflowError):
            nested = True
        if len(key) > MAX_PATTERN_CHARACTERS or repetitions > MAX_REPETITIONS or nested or not key:
            raise AdapterInvalid(f"{name} has a pattern that is not read here: {_short(key)}")
    return {key: _number(number, name, whole=whole) for key, number in value.items()}


def _number(value: Any, name: str, *, whole: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise AdapterInvalid(f"{name} must be a number above 0, not {_short(value)}")
    if whole and value != int(value):
        raise AdapterInvalid(f"{name} must be a whole number, not {_short(value)}")
    return value


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, str) else value
    return text if len(text) <= 80 else text[:79] + "…"
