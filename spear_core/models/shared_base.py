"""One copy of the base weights, two models over it: one serves, one trains. No files, no threads of its own.

`copy.deepcopy` with every base parameter and buffer pre-placed in `memo` gives a second module tree on the same
tensors; each tree gets its own LoRA. (One PeftModel with `set_adapter` across threads does not work: it is shared
state and flips `requires_grad`.)

Copying a module tree takes tens of milliseconds of Python, which a reply under way would feel. So trees for serving are
used in turn: one goes back among the spare ones when nobody holds its model any more, and only then is it written over.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from spear_core.config import LORA_LAYERS, SpearConfig
from spear_core.errors import AdapterInvalid
from spear_core.models.causal_model import CausalModel, unwrapped
from spear_core.models.decoder_layers import layer_list, layers_of
from spear_core.models.lora_dtype import cast_lora
from spear_core.training.attention import use_plain_backward

AdapterState = dict[str, Tensor]
_M = TypeVar("_M", bound=nn.Module)
LINEAR_MAPS = (nn.Linear, Conv1D)  # Conv1D is GPT-2's name for one
SPARE_TREES = 2  # one serves, the next is written meanwhile
FIRST_ADAPTER_SEED = 1  # the same for everybody: only adapters that began alike can be averaged factor by factor


def share_base(model: _M) -> _M:
    """A second module tree on the very same parameters and buffers; a LoRA on top is copied."""
    held = [p for name, p in model.named_parameters() if "lora_" not in name]
    memo: dict[int, Any] = {id(t): t for t in (*held, *model.buffers())}
    return copy.deepcopy(model, memo)


def lora_config(config: SpearConfig, model: CausalModel) -> LoraConfig:
    """LoRA on all linear maps of the chosen layers, never the head (arXiv 2605.07977; sizes from the config).

    `model` is the causal language model, with or without PEFT around it: it says how its layers are named and how many
    there are. A model whose layers cannot be told apart gets LoRA in all of them.
    """
    chosen: dict[str, Any] = {"target_modules": "all-linear"}
    found = layer_list(unwrapped(model).base_model) if config.lora_layers != "all" else None
    if found is not None:
        name, layers = found
        count = max(1, round(LORA_LAYERS[config.lora_layers] * len(layers)))
        chosen = {
            "target_modules": sorted({path.rpartition(".")[2] for path in _linear_maps(layers[-1])}),
            "layers_to_transform": list(range(len(layers) - count, len(layers))),
            "layers_pattern": name,
        }
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        bias="none",
        task_type="CAUSAL_LM",
        **chosen,
    )


def _linear_maps(layer: nn.Module) -> list[str]:
    """Paths of a layer's linear maps, also where LoRA is around them already."""
    return [
        path.removesuffix(".base_layer")
        for path, module in layer.named_modules()
        if isinstance(module, LINEAR_MAPS) and "lora_" not in path
    ]


@dataclass(frozen=True)
class Serving:
    """What replies are made with: a model that never changes, and the version of its adapter (0: the base alone)."""

    model: CausalModel
    version: int


class SharedBaseModels:
    """The serving and the training model over one base. `publish` swaps what serves; a reply under way keeps its own."""

    def __init__(self, base: PreTrainedModel, config: SpearConfig, seed: int = FIRST_ADAPTER_SEED) -> None:
        self._before_layer = _BeforeLayer()
        self.base = share_base(base)  # a tree of its own: its hooks are the two models' business, and copied with it
        for layer in layers_of(self.base):
            layer.register_forward_pre_hook(self._before_layer)
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.training: PeftModel = get_peft_model(share_base(self.base), lora_config(config, self.base))
        use_plain_backward(unwrapped(self.training))
        if config.lora_layers != "all":  # where all layers have LoRA, of small models, it is slower
            cast_lora(self.training)
        self.training.eval()
        self.initial = self.state()
        self._spare = [self._tree() for _ in range(SPARE_TREES)]
        self._serving = Serving(self.base, 0)

    @property
    def serving(self) -> Serving:
        return self._serving

    def pause_before_layers(self, pause: Callable[[], None]) -> None:
        """Call `pause` before each layer of every model here, in place of what was called there before.

        Layers are Python, hundreds of operations each of which asks for Python's lock: whoever computes beside them,
        a reply's first words, takes several times as long. It is for `pause` to know whose thread is to wait.
        """
        self._before_layer.pause = pause

    def state(self) -> AdapterState:
        """A copy of the training adapter's tensors (PEFT's names)."""
        return {k: v.detach().clone() for k, v in get_peft_model_state_dict(self.training).items()}

    def load(self, state: AdapterState | None) -> None:
        """Put an adapter into the training model; None is the untouched first adapter (the base model's behaviour)."""
        load_state(self.training, self.initial if state is None else state)

    def publish(self, state: AdapterState | None, version: int) -> None:
        """Serve an adapter from the next reply on. Replies under way finish with the model they began with."""
        self._serving = Serving(self.with_adapter(state), version if state is not None else 0)

    def with_adapter(self, state: AdapterState | None) -> CausalModel:
        """One more model over the base weights, with an adapter of its own, that never changes while it is held.

        None gives the base. Raises AdapterInvalid where names or shapes are not this model's.
        """
        if state is None:
            return self.base
        try:
            tree = self._spare.pop()
        except IndexError:  # all of them are in use
            tree = self._tree()
        model = copy.copy(tree.model)  # the same modules; when the last holder lets go of it, the tree is free again
        weakref.finalize(model, _give_back, self._spare, tree)  # not a bound method: it would keep all models for good
        tree.write(state)
        return model

    def _tree(self) -> _Tree:
        return _Tree(share_base(self.training))


def _give_back(spare: list[_Tree], tree: _Tree) -> None:
    if len(spare) < SPARE_TREES:
        spare.append(tree)


class _BeforeLayer:
    """A forward pre-hook, the same one in every copy of a model."""

    def __init__(self) -> None:
        self.pause: Callable[[], None] = lambda: None

    def __call__(self, *_: Any) -> None:
        self.pause()

    def __deepcopy__(self, memo: dict[int, Any]) -> _BeforeLayer:
        return self


class _Tree:
    """A module tree that serves, and its adapter's tensors under PEFT's names."""

    def __init__(self, model: PeftModel) -> None:
        model.requires_grad_(False)
        model.eval()
        self.model = model
        self._tensors: AdapterState = get_peft_model_state_dict(model)  # the parameters themselves, not copies

    def write(self, state: AdapterState) -> None:
        _check_fit(self._tensors, state)
        for name, tensor in self._tensors.items():
            tensor.copy_(state[name])


def load_state(model: PeftModel, state: AdapterState) -> None:
    """Raises AdapterInvalid where names or shapes are not this model's."""
    _check_fit(get_peft_model_state_dict(model), state)
    set_peft_model_state_dict(model, state)


def _check_fit(expected: AdapterState, state: AdapterState) -> None:
    if expected.keys() != state.keys():
        odd = sorted(expected.keys() ^ state.keys())[0]
        raise AdapterInvalid(f"the adapter does not fit this model: tensor {odd} is missing or extra")
    for name, tensor in expected.items():
        if tensor.shape != state[name].shape:
            raise AdapterInvalid(
                f"the adapter does not fit this model: {name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
            )
