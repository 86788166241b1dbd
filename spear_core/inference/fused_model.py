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
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from spear_core.errors import one_line

log = logging.getLogger(__name__)
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma")
# relative difference of logits above which the two forwards are not the same computation
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
FEW_ROWS = 32  # up to so many, weights @ inputs is faster on a CPU than inputs @ weights (no reordering of the weights)
POSITIONS = 1024  # rotary tables grow by so many


class NotCovered(Exception):
    """The model is not one that this forward computes."""


def fuse_projections(causal: Any) -> None:
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


@dataclass(frozen=True)
class _Product:
    """A linear map, fused of one or more modules, with what LoRA adds to it: (N, I) -> (N, O), or (I,) -> (O,)."""

    weight: Tensor
    bias: Tensor | None
    down: Tensor | None = None  # (R, I)
    up: Tensor | None = None  # (O, R), scaled

    @classmethod
    def of(cls, *modules: Any) -> _Product:
        plain = [_plain(m) for m in modules]
        if not all(type(m) is nn.Linear for m in plain):
            raise NotCovered("a projection is not a linear layer")
        biases = [m.bias for m in plain if m.bias is not None]
        if biases and len(biases) < len(plain):
            raise NotCovered("some projections have a bias")
        weight = _fuse([m.weight for m in plain])
        return cls(weight, _fuse(biases) if biases else None, *_lora(modules))

    def __call__(self, x: Tensor) -> Tensor:
        if x.ndim == 1:
            y = torch.mv(self.weight, x) if self.bias is None else torch.addmv(self.bias, self.weight, x)
            if self.down is None or self.up is None:
                return y
            inner = torch.mv(self.down, x.to(self.down.dtype))  # (R,)
            return torch.addmv(y.to(self.down.dtype), self.up, inner).to(y.dtype)
        if len(x) <= FEW_ROWS and self.bias is None and x.device.type == "cpu":
            y = torch.mm(self.weight, x.t()).t()
        else:
            y = F.linear(x, self.weight, self.bias)
        if self.down is None or self.up is None:
            return y
        inner = torch.mm(x.to(self.down.dtype), self.down.t())  # (N, R)
        return torch.addmm(y.to(self.down.dtype), inner, self.up.t()).to(y.dtype)


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


@dataclass(frozen=True)
class _Norm:
    """Root mean square norm: (..., D) -> (..., D). `weight` is float32 where the family multiplies before rounding."""

    weight: Tensor
    epsilon: float
    rounds_last: bool

    @classmethod
    def of(cls, module: Any, family: str) -> _Norm:
        weight = module.weight.detach()
        if family == "gemma":
            return cls(1.0 + weight.float(), float(module.eps), True)
        return cls(weight, float(module.variance_epsilon), False)

    def __call__(self, x: Tensor) -> Tensor:
        if x.ndim == 1 and x.device.type == "cpu" and not self.rounds_last:  # a third of the time of `rms_norm`
            length = float(torch.linalg.vector_norm(x, dtype=torch.float32))
            scale = 1.0 / math.sqrt(length * length / len(x) + self.epsilon)
            return (x * scale).mul_(self.weight)
        if self.rounds_last:
            return F.rms_norm(x.float(), self.weight.shape, self.weight, self.epsilon).to(x.dtype)
        return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


@dataclass(frozen=True)
class _Layer:
    hooks: tuple[Callable[[], Any], ...]  # that the model has before this layer
    norm: _Norm
    qkv: _Product
    head_norms: Tensor | None  # (heads + kv heads, D): of the queries and keys, where the family has them
    out: _Product
    mlp_norm: _Norm
    gate_up: _Product
    act: Any
    down: _Product


class FusedModel:
    """Weights and forward of one model. Holds no reference to the model itself, only to its tensors."""

    def __init__(self, model: Any) -> None:
        causal = _causal(model)
        config, inner = causal.config, getattr(causal, "model", None)
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
        self._epsilon = float(config.rms_norm_eps)
        self._scale = float(inner.layers[0].self_attn.scaling)
        self._layers = [self._layer(layer, family) for layer in inner.layers]
        self._norm = _Norm.of(inner.norm, family)
        self._head = _Product(head.weight.detach(), None if head.bias is None else head.bias.detach())

    @property
    def layers(self) -> int:
        return len(self._layers)

    @staticmethod
    def of(model: Any) -> FusedModel | None:
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
        spans = []
        at = 0
        for cache, used, new in rows:
            spans.append(_Span.of(cache, used, at, at + len(new), self.kv_heads))
            at += len(new)
        positions = [used + i for _, used, new in rows for i in range(len(new))]
        cos, sin = self._rotations(positions)
        x = self.embed(ids).view(len(flat), -1)  # (N, H); from here on (H,) where it is one token
        if len(flat) == 1:
            x = x[0]
        for number, layer in enumerate(self._layers):
            for hook in layer.hooks:
                hook()
            x = x + layer.out(self._attention(layer, number, layer.norm(x), cos, sin, spans))
            gate, up = layer.gate_up(layer.mlp_norm(x)).chunk(2, dim=-1)
            x = x + layer.down(layer.act(gate) * up)
        if len(rows) < len(positions):
            x = x[[span.end - 1 for span in spans]]
        return self._head(self._norm(x)).view(len(rows), -1)

    def _attention(
        self, layer: _Layer, number: int, x: Tensor, cos: Tensor, sin: Tensor, spans: Sequence[_Span]
    ) -> Tensor:
        """(N, H) -> (N, heads * D), or (H,) -> (heads * D,)"""
        turned = self.heads + self.kv_heads
        qkv = layer.qkv(x).view(-1, turned + self.kv_heads, self.head_dim)
        qk = qkv[:, :turned]
        if layer.head_norms is not None:
            qk = F.rms_norm(qk, (self.head_dim,), None, self._epsilon) * layer.head_norms
        qk = torch.addcmul(qk * cos, qk.roll(self.head_dim // 2, -1), sin)  # sin has the sign of the half it is for
        queries, keys, values = qk[:, : self.heads], qk[:, self.heads :], qkv[:, turned:]
        outs = []
        for span in spans:
            start, end = span.start, span.end
            span.new_keys[number].copy_(keys[start:end])
            span.new_values[number].copy_(values[start:end])
            out = F.scaled_dot_product_attention(
                queries[start:end].transpose(0, 1).unsqueeze(0),  # (1, heads, n, D)
                span.keys[number],
                span.values[number],
                attn_mask=span.mask,
                is_causal=span.is_causal,
                scale=self._scale,
                enable_gqa=self.heads != self.kv_heads,
            )
            if x.ndim == 1:
                return out.view(-1)
            outs.append(out[0].transpose(0, 1).reshape(end - start, -1))
        return outs[0] if len(outs) == 1 else torch.cat(outs)

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
            norm=_Norm.of(layer.input_layernorm, family),
            qkv=_Product.of(attention.q_proj, attention.k_proj, attention.v_proj),
            head_norms=norms,
            out=_Product.of(attention.o_proj),
            mlp_norm=_Norm.of(layer.post_attention_layernorm, family),
            gate_up=_Product.of(mlp.gate_proj, mlp.up_proj),
            act=mlp.act_fn,
            down=_Product.of(mlp.down_proj),
        )


@dataclass(frozen=True)
class _Span:
    """Where one row's new tokens lie in the flat run, and, layer by layer, the parts of its cache that they touch."""

    start: int
    end: int
    new_keys: tuple[Tensor, ...]  # (n, kv heads, D)
    new_values: tuple[Tensor, ...]
    keys: tuple[Tensor, ...]  # (1, kv heads, T, D)
    values: tuple[Tensor, ...]
    mask: Tensor | None
    is_causal: bool

    @classmethod
    def of(cls, cache: Tensor, used: int, start: int, end: int, kv_heads: int) -> _Span:
        count = end - start
        total = used + count
        new, whole = cache[:, used:total], cache[:, None, :total].transpose(2, 3)  # (L, 1, 2 * kv heads, T, D)
        mask = None
        if used and count > 1:
            mask = torch.ones(count, total, dtype=torch.bool, device=cache.device).tril(used)
        return cls(
            start,
            end,
            new[:, :, :kv_heads].unbind(0),
            new[:, :, kv_heads:].unbind(0),
            whole[:, :, :kv_heads].unbind(0),
            whole[:, :, kv_heads:].unbind(0),
            mask,
            is_causal=mask is None and count > 1,
        )


# -- which models ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Built:
    """What was made of a model, and what of its adapters it was made from."""

    adapters: list[LoraLinear]
    version: list[Any]
    fused: FusedModel | None


_built: WeakKeyDictionary[Any, _Built] = WeakKeyDictionary()
_agrees: Any = WeakIdKeyDictionary()  # embedding weights of a base -> does the lean forward agree with its own?


def _checked(model: Any) -> FusedModel | None:
    """The lean forward, once it has given the logits of the base's own forward."""
    causal = _causal(model)
    fused = FusedModel(model)
    weight = causal.get_input_embeddings().weight
    if weight not in _agrees:
        _agrees[weight] = _same_logits(causal, fused)
    return fused if _agrees[weight] else None


@torch.inference_mode()
def _same_logits(causal: Any, fused: FusedModel) -> bool:
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


def _causal(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _layers(causal: Any) -> Sequence[Any]:
    return getattr(getattr(causal, "model", None), "layers", None) or ()
