"""The layers below the first adapted one, computed once for each text. No loss, no text, no threads.

With LoRA in the upper layers only, the hidden states that enter the first adapted layer depend on the tokens and on the
base model alone: not on the adapter, the step or the round. They are kept (in the model's own dtype, usually bfloat16,
70 KB for 60 tokens of a model with 576 hidden units), and both passes then run through the upper layers only.

Each text's states are computed by themselves, never in a batch: a row's last bits depend on what it is computed with, and
an adapter trained again after a forgetting must come out bit-equal whatever the cache held.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary
from transformers import PreTrainedModel

from spear_core.errors import one_line
from spear_core.models.causal_model import CausalModel, unwrapped
from spear_core.models.decoder_layers import evaluating, layer_list
from spear_core.training.ability import (
    REFUSALS,
    Ability,
    ability,
    backbone_inputs,
    backbone_of,
    made_up,
    same_states,
)
from spear_core.training.packing import Packed, pack
from spear_core.training.traces import Encoded

log = logging.getLogger(__name__)
TRUNK_CACHE_BYTES = 160 * 2**20
FINAL_NORMS = ("norm", "final_layernorm", "final_layer_norm", "ln_f")
TextKey = tuple[tuple[int, ...], tuple[int, ...]]  # prompt ids, completion ids


def text_key(example: Encoded) -> TextKey:
    """What hidden states are cached by: prompt and completion as token ids."""
    return example.prompt_ids, example.completion_ids


class TrunkCache:
    """Hidden states (tokens, H) by text; the least recently used go beyond `limit_bytes`. Thread-safe."""

    def __init__(self, limit_bytes: int = TRUNK_CACHE_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.bytes = 0
        self._states: OrderedDict[TextKey, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._states)

    def get(self, key: TextKey) -> Tensor | None:
        with self._lock:
            found = self._states.get(key)
            if found is not None:
                self._states.move_to_end(key)
            return found

    def add(self, key: TextKey, states: Tensor) -> None:
        with self._lock:
            if key in self._states:
                return
            self._states[key] = states
            self.bytes += states.numel() * states.element_size()
            while self.bytes > self.limit_bytes and len(self._states) > 1:
                _, oldest = self._states.popitem(last=False)
                self.bytes -= oldest.numel() * oldest.element_size()

    def drop(self, keep: Collection[TextKey] = ()) -> None:
        """Forget every text but these."""
        with self._lock:
            self._keep_only([key for key in self._states if key in keep])

    def discard(self, keys: Collection[TextKey]) -> None:
        """Forget these texts."""
        with self._lock:
            self._keep_only([key for key in self._states if key not in keys])

    def _keep_only(self, keys: Sequence[TextKey]) -> None:
        self._states = OrderedDict((key, self._states[key]) for key in keys)
        self.bytes = sum(states.numel() * states.element_size() for states in self._states.values())


class Trunk:
    """One backbone cut below its first adapted layer; both parts are made of the backbone's own modules.

    Args:
        backbone: a transformers decoder with a list of layers and one norm after it, which takes `inputs_embeds`.
        first: index of the first adapted layer, at least 1.

    Raises:
        ValueError: where the backbone is not built like that. Whether the two parts give what the whole gives is for the
            caller to try (`trunk_of`).
    """

    def __init__(self, backbone: nn.Module, first: int, cache: TrunkCache | None = None) -> None:
        self.first = first
        self.cache = TrunkCache() if cache is None else cache  # an empty one has no truth
        layers = layer_list(backbone)
        norm = next((name for name in FINAL_NORMS if isinstance(getattr(backbone, name, None), nn.Module)), None)
        if layers is None or norm is None or not 0 < first < len(layers[1]):
            raise ValueError("the layers cannot be cut in two")
        name, modules = layers
        self._below = _with_modules(backbone, {name: nn.ModuleList(list(modules)[:first]), norm: nn.Identity()})
        self._above = _with_modules(backbone, {name: nn.ModuleList(list(modules)[first:])})

    def states(self, example: Encoded) -> Tensor:
        """What enters the first adapted layer for one prompt + completion: (tokens, H), from the cache where it is there."""
        key, cache = text_key(example), self.cache
        found = cache.get(key)
        if found is None:
            device = next(self._below.parameters()).device
            ids = torch.tensor([[*example.prompt_ids, *example.completion_ids]], device=device)
            with torch.no_grad():
                found = self._below(input_ids=ids, use_cache=False).last_hidden_state[0].clone()
            cache.add(key, found)
        return found

    def hidden(self, packed: Packed, examples: Sequence[Encoded], inputs: dict[str, Any]) -> Tensor:
        """The backbone's last hidden states (R, T, H) of packed rows; `inputs` is what the whole backbone would get."""
        states = [self.states(e) for e in examples]
        rows, width = packed.ids.shape
        entering = states[0].new_zeros(rows, width, states[0].shape[-1])  # (R, T, H)
        for piece in packed.pieces:
            part = states[piece.example][piece.offset : piece.offset + piece.length]
            entering[piece.row, piece.column : piece.column + piece.length] = part
        others = {name: value for name, value in inputs.items() if name != "input_ids"}
        out: Tensor = self._above(inputs_embeds=entering, **others).last_hidden_state
        return out


_trunks: WeakKeyDictionary[PreTrainedModel, Trunk | None] = WeakKeyDictionary()
# by the weight of the input embedding, which all module trees over one base share, and the first adapted layer
_kept_states = WeakIdKeyDictionary()  # told by identity: tensors have no truth when they are compared
_trying = threading.Lock()


def first_adapted(backbone: nn.Module) -> int:
    """Index of the first layer with LoRA in it; 0 where that is the first, or where there is none, or LoRA elsewhere too."""
    found = layer_list(backbone)
    if found is None:
        return 0
    in_layers = [any("lora_" in name for name, _ in layer.named_parameters()) for layer in found[1]]
    everywhere = sum("lora_" in name for name, _ in backbone.named_parameters())
    inside = sum("lora_" in name for layer in found[1] for name, _ in layer.named_parameters())
    return in_layers.index(True) if any(in_layers) and everywhere == inside else 0


def trunk_of(model: CausalModel) -> Trunk | None:
    """The model cut below its first adapted layer, with the cache of what enters that layer. Thread-safe.

    None where LoRA begins in the first layer, where layers look back only so far, or where the parts, tried the first time
    the model is asked, do not give what the whole gives.
    """
    causal, able = unwrapped(model), ability(model)
    with _trying:
        if causal not in _trunks:
            _trunks[causal] = _try_trunk(causal, able)
        return _trunks[causal]


def drop_kept_states(model: CausalModel, keep: Sequence[Encoded] = ()) -> None:
    """Drop the kept hidden states of every text but these: erased texts must not stay in memory."""
    if trunk := trunk_of(model):
        trunk.cache.drop({text_key(e) for e in keep})


def _try_trunk(causal: PreTrainedModel, able: Ability) -> Trunk | None:
    backbone = backbone_of(causal)
    first = first_adapted(backbone)
    if not first or not able.plain_head or not able.packs or able.window is not None:
        return None
    vocabulary = int(causal.config.get_text_config().vocab_size)
    tokens = [(5 + 13 * i) % vocabulary for i in range(20)]
    trial = [made_up(tokens[:4], tokens[4:14]), made_up(tokens[:4], tokens[14:20])]
    try:
        kept: dict[int, TrunkCache] = _kept_states.setdefault(causal.get_input_embeddings().weight, {})
        trunk = Trunk(backbone, first, kept.setdefault(first, TrunkCache()))
        packed = pack(trial, 0, next(causal.parameters()).device, every_token=True)
        inputs = backbone_inputs(packed, share=True, dtype=causal.dtype)
        with evaluating(causal), torch.no_grad():
            halves = trunk.hidden(packed, trial, inputs)[packed.present]
            if same_states(halves, backbone(**inputs).last_hidden_state[packed.present]):
                trunk.cache.discard([text_key(e) for e in trial])
                return trunk
        log.warning("this model computes something else when its layers are cut in two; the lower ones are not cached")
    except REFUSALS as e:
        log.warning("the lower layers of this model are not cached: %s", one_line(e))
    return None


def _with_modules(module: nn.Module, changed: dict[str, nn.Module]) -> nn.Module:
    """A shallow copy with some children replaced. Whoever else uses the module notices nothing."""
    other = copy.copy(module)
    other._modules = {**module._modules, **changed}
    return other
