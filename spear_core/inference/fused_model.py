"""A lean forward pass for llama-like models: inference only, one flat run of tokens, caches owned by the caller.

- q/k/v, and gate/up, are one product each. The fused weights are the base's own: its parameters become views of them,
  so no memory is doubled and every tree over the base shares them.
- A LoRA adapter of any subset of layers is applied beside the base's product, in its own dtype, as PEFT does.
- Tokens of all rows lie in one flat run, without padding; attention goes row by row over each row's own cache.

Covered: llama, mistral without a window, qwen2, qwen3, gemma. What the code assumes is checked, and the result compared
once with the model's own forward; `FusedModel.of` gives None for everything else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary
from transformers import PreTrainedModel

from spear_core.errors import one_line
from spear_core.inference.fused_layer import (
    LayerWeights,
    Projection,
    Sizes,
    forward_head,
    forward_layer,
    run_head,
    run_layer,
)
from spear_core.models.causal_model import CausalModel, unwrapped

log = logging.getLogger(__name__)
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma")
# relative difference of logits above which the two forwards are not the same computation
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
POSITIONS = 1024  # rotary tables grow by so many


class NotCovered(Exception):
    """The model is not one that this forward computes."""


def fuse_projections(causal: PreTrainedModel) -> None:
    """Lay each layer's q/k/v weights, and its gate/up weights, side by side in memory; the parameters become views.

    Values, shapes and identities of the parameters stay. Nothing happens where it was done before, nor to a layer that
    has other projections.
    """
    for layer in _layers(causal):
        for group in (("self_attn", ("q_proj", "k_proj", "v_proj")), ("mlp", ("gate_proj", "up_proj"))):
            parent, names = getattr(layer, group[0], None), group[1]
            modules = [_plain(getattr(parent, name, None)) for name in names]
            if all(isinstance(module, nn.Linear) for module in modules):
                _fuse([module.weight for module in modules])
                if all(module.bias is not None for module in modules):
                    _fuse([module.bias for module in modules])


_fusing = threading.Lock()


@torch.inference_mode(False)
def _fuse(parameters: Sequence[nn.Parameter]) -> Tensor:
    """One tensor of all of them, along the first dimension, which they are views of afterwards."""
    with _fusing:
        if not _are_adjacent(parameters):
            whole = torch.cat([p.detach() for p in parameters])
            for parameter, view in zip(parameters, whole.split([len(p) for p in parameters]), strict=True):
                parameter.data = view
        first = parameters[0].detach()
        return first.as_strided((sum(len(p) for p in parameters), *first.shape[1:]), first.stride())


def _are_adjacent(parameters: Sequence[nn.Parameter]) -> bool:
    first = parameters[0]
    at = first.storage_offset()
    for p in parameters:
        same = p.untyped_storage().data_ptr() == first.untyped_storage().data_ptr() and p.is_contiguous()
        if not same or p.storage_offset() != at:
            return False
        at += p.numel()
    return True


def _projection(*modules: Any) -> Projection:
    """One linear map of all modules, which read the same input, with what LoRA adds to it."""
    plain = [_plain(m) for m in modules]
    if not all(type(m) is nn.Linear for m in plain):
        raise NotCovered("a projection is not a linear layer")
    biases = [m.bias for m in plain if m.bias is not None]
    if biases and len(biases) < len(plain):
        raise NotCovered("some projections have a bias")
    return Projection(_fuse([m.weight for m in plain]), _fuse(biases) if biases else None, *_lora(modules))


def _plain(module: Any) -> Any:
    return module.base_layer if isinstance(module, LoraLinear) else module


def _lora(modules: Sequence[Any]) -> tuple[Tensor | None, Tensor | None]:
    """The adapters of some modules that read the same input, as one pair of factors. (None, None) where there is none."""
    downs: list[Tensor] = []
    ups: list[tuple[int, Tensor]] = []  # (first output, (O of the module, r))
    at = 0
    for module in modules:
        width = _plain(module).out_features
        if isinstance(module, LoraLinear) and not module.disable_adapters and not module.merged:
            factors_down: Any = module.lora_A
            factors_up: Any = module.lora_B
            for name in module.active_adapters:
                if name not in module.lora_A:
                    continue
                if name in module.lora_variant or module.lora_bias.get(name) or module.training:
                    raise NotCovered("an adapter is not plain LoRA, or is being trained")
                downs.append(factors_down[name].weight.detach())
                ups.append((at, factors_up[name].weight.detach() * module.scaling[name]))
        at += width
    if not downs:
        return None, None
    down = torch.cat(downs)
    up = down.new_zeros(at, down.shape[0])
    rank = 0
    for first, factor in ups:
        up[first : first + factor.shape[0], rank : rank + factor.shape[1]] = factor
        rank += factor.shape[1]
    return down, up


def _norm_weight(module: Any, rounds_last: bool) -> Tensor:
    weight: Tensor = module.weight.detach()
    return 1.0 + weight.float() if rounds_last else weight


def _is_gelu(activation: Any) -> bool:
    """Whether it is GELU (tanh); False: SiLU. Raises NotCovered for any other."""
    values = torch.linspace(-4, 4, 17)
    given = activation(values)
    if torch.allclose(given, F.silu(values), atol=1e-6):
        return False
    if torch.allclose(given, F.gelu(values, approximate="tanh"), atol=1e-6):
        return True
    raise NotCovered("its activation is neither SiLU nor GELU")


@dataclass(frozen=True)
class _Layer:
    hooks: tuple[Callable[[], Any], ...]  # that the model has before this layer
    weights: LayerWeights


class FusedModel:
    """Weights and forward of one model. Holds no reference to the model itself, only to its tensors."""

    def __init__(self, model: CausalModel) -> None:
        causal = unwrapped(model)
        config: Any = causal.config
        inner = getattr(causal, "model", None)
        family = str(getattr(config, "model_type", ""))
        if family not in FAMILIES or inner is None:
            raise NotCovered(f"models of type {family or 'unknown'} are computed by their own code")
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
        if kinds != {"full_attention"} or (family == "mistral" and windowed):
            raise NotCovered("some layers have a window")
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type", "default") in ("dynamic", "longrope") or rope.get("partial_rotary_factor", 1.0) != 1.0:
            raise NotCovered("its rotary positions depend on the length")
        head = causal.get_output_embeddings()
        if type(head) is not nn.Linear:
            raise NotCovered("its head is not a linear layer")
        self.kv_heads = int(config.num_key_value_heads)
        self.heads = int(config.num_attention_heads)
        self.head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // self.heads)
        self.dtype, self.device = head.weight.dtype, head.weight.device
        self.embed = causal.get_input_embeddings()
        self._rotary = inner.rotary_emb
        self._cos = self._sin = torch.empty(0)
        self._sizes = Sizes(
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            scale=float(inner.layers[0].self_attn.scaling),
            epsilon=float(config.rms_norm_eps),
            rounds_last=family == "gemma",
            is_gelu=_is_gelu(inner.layers[0].mlp.act_fn),
        )
        self._layers = [self._layer(layer, family) for layer in inner.layers]
        self._norm = _norm_weight(inner.norm, self._sizes.rounds_last)
        self._head = Projection(head.weight.detach(), None if head.bias is None else head.bias.detach())

    @property
    def layers(self) -> int:
        """The number of decoder layers."""
        return len(self._layers)

    @staticmethod
    def of(model: CausalModel) -> FusedModel | None:
        """The lean forward of a model, PEFT or not. None where it is not covered, or computes something else."""
        try:
            known = _built.get(model)
            if known is None or known.version != _version(known.adapters):
                adapters = [m for m in model.modules() if isinstance(m, LoraLinear)]
                known = _built[model] = _Built(adapters, _version(adapters), _checked(model))
            return known.fused
        except (NotCovered, AttributeError, TypeError) as e:
            log.debug("no lean forward: %s", one_line(e))
            return None

    def new_cache(self, tokens: int) -> Tensor:
        """Room for a row's keys and values: (layers, tokens, 2 * kv heads, D), keys first."""
        return torch.empty(self.layers, tokens, 2 * self.kv_heads, self.head_dim, dtype=self.dtype, device=self.device)

    @torch.inference_mode()
    def extend(self, rows: Sequence[tuple[Tensor, int, Sequence[int]]]) -> Tensor:
        """Put tokens after those that each row's cache holds; logits (B, V) after the last of each.

        A row is (cache, tokens in it, new tokens); the cache must have room for them.
        """
        flat = [token for _, _, new in rows for token in new]  # N tokens
        ids = (
            torch.tensor(flat, device=self.device).view(-1, 1)
            if len(flat) == len(rows)
            else torch.tensor([flat], device=self.device)
        )
        caches = [cache for cache, _, _ in rows]
        used = [count for _, count, _ in rows]
        counts = [len(new) for _, _, new in rows]
        masks = [self._mask(*row) for row in zip(used, counts, strict=True)]
        positions = [before + i for before, count in zip(used, counts, strict=True) for i in range(count)]
        cos, sin = self._rotations(positions)
        x = self.embed(ids).view(len(flat), -1)  # (N, H); from here on (H,) where it is one token
        if len(flat) == 1:
            x = x[0]
        on_cpu = self.device.type == "cpu"  # elsewhere TorchScript's fuser would compile again for new lengths
        forward, head = (run_layer, run_head) if on_cpu else (forward_layer, forward_head)
        for number, layer in enumerate(self._layers):
            for hook in layer.hooks:
                hook()
            x = forward(x, layer.weights, self._sizes, cos, sin, number, caches, used, counts, masks)
        if len(rows) < len(positions):
            x = x[[end - 1 for end in accumulate(counts)]]
        logits: Tensor = head(x, self._norm, self._head, self._sizes)
        return logits.view(len(rows), -1)

    def _mask(self, used: int, count: int) -> Tensor | None:
        """Which of all tokens each new one sees, (n, T). None where it is all of them, or plainly causal."""
        if not used or count == 1:
            return None
        return torch.ones(count, used + count, dtype=torch.bool, device=self.device).tril(used)

    def _rotations(self, positions: list[int]) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines, (N, 1, D)."""
        if max(positions) >= len(self._cos):
            count = (max(positions) // POSITIONS + 1) * POSITIONS
            like = torch.empty(1, dtype=self.dtype, device=self.device)
            cos, sin = self._rotary(like, torch.arange(count, device=self.device).unsqueeze(0))
            if cos.shape[-1] != self.head_dim:
                raise NotCovered("only a part of each head is rotated")
            sign = torch.ones(self.head_dim, dtype=self.dtype, device=self.device)
            sign[: self.head_dim // 2] = -1
            self._sin, self._cos = (sin[0] * sign).unsqueeze(1), cos[0].unsqueeze(1)
        if len(positions) == 1:
            at = positions[0]
            return self._cos[at : at + 1], self._sin[at : at + 1]
        places = torch.tensor(positions, device=self.device)
        return self._cos[places], self._sin[places]

    def _layer(self, layer: Any, family: str) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        norms = None
        if family == "qwen3":
            queries, keys = (getattr(attention, name).weight.detach() for name in ("q_norm", "k_norm"))
            norms = torch.cat([queries.expand(self.heads, -1), keys.expand(self.kv_heads, -1)])
        return _Layer(
            hooks=tuple(partial(hook, layer, ()) for hook in layer._forward_pre_hooks.values()),
            weights=LayerWeights(
                norm=_norm_weight(layer.input_layernorm, self._sizes.rounds_last),
                qkv=_projection(attention.q_proj, attention.k_proj, attention.v_proj),
                head_norms=norms,
                out=_projection(attention.o_proj),
                mlp_norm=_norm_weight(layer.post_attention_layernorm, self._sizes.rounds_last),
                gate_up=_projection(mlp.gate_proj, mlp.up_proj),
                down=_projection(mlp.down_proj),
            ),
        )


# -- which models ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Built:
    """What was made of a model, and what of its adapters it was made from."""

    adapters: list[LoraLinear]
    version: list[Any]
    fused: FusedModel | None


_built: WeakKeyDictionary[CausalModel, _Built] = WeakKeyDictionary()
_agrees: Any = WeakIdKeyDictionary()  # embedding weights of a base -> does the lean forward agree with its own?


def _checked(model: CausalModel) -> FusedModel | None:
    """The lean forward, once it has given the logits of the base's own forward."""
    causal = unwrapped(model)
    fused = FusedModel(model)
    weight = causal.get_input_embeddings().weight
    if weight not in _agrees:
        _agrees[weight] = _same_logits(causal, fused)
    return fused if _agrees[weight] else None


@torch.inference_mode()
def _same_logits(causal: PreTrainedModel, fused: FusedModel) -> bool:
    tokens = [(7 + 11 * i) % int(causal.config.vocab_size) for i in range(9)]
    own = causal(input_ids=torch.tensor([tokens], device=fused.device), use_cache=False).logits[0, -1].float()
    cache = fused.new_cache(len(tokens))
    fused.extend([(cache, 0, tokens[:5])])
    fused.extend([(cache, 5, tokens[5:8])])
    ours = fused.extend([(cache, 8, tokens[8:])])[0].float()
    same = bool((ours - own).norm() <= TOLERANCE.get(fused.dtype, 1e-3) * own.norm().clamp(min=1e-6))
    if not same:
        log.info("the lean forward differs from the model's own; the model's own is used")
    return same


def _version(adapters: Sequence[LoraLinear]) -> list[Any]:
    """Changes with every change of an adapter's tensors, and of which of them are in use."""
    version: list[Any] = []
    for module in adapters:
        version += (module.disable_adapters, module.merged, *module.active_adapters)
        for factors in (module.lora_A, module.lora_B):
            for factor in list[Any](factors.values()):
                counted = not factor.weight.is_inference()  # tensors made in inference mode count no changes
                version += (id(factor.weight), factor.weight._version if counted else object())
    return version


def _layers(causal: PreTrainedModel) -> Sequence[Any]:
    return getattr(getattr(causal, "model", None), "layers", None) or ()
