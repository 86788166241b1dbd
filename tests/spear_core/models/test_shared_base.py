"""Two models over one base: what they share, what they never share, and who is made to wait."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest
import torch

from spear_core.config import preset
from spear_core.errors import AdapterInvalid
from spear_core.models.decoder_layers import layers_of
from spear_core.models.loading import LoadedModel, load_model
from spear_core.models.shared_base import AdapterState, SharedBaseModels
from tests.tiny_models import tiny_folder

PROMPT = torch.tensor([[5, 6, 7]])


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(str(tiny_folder("llama3", tmp_path_factory.mktemp("models") / "tiny")))


def shared_models_of(loaded: LoadedModel) -> SharedBaseModels:
    return SharedBaseModels(loaded.model, preset("live"), seed=3)


def modules_within_reach(root: Any) -> set[int]:
    """Ids of all modules that can be reached from an object in any way."""
    seen: set[int] = set()
    found: set[int] = set()
    open_: list[Any] = [root]
    while open_:
        thing = open_.pop()
        if id(thing) in seen or isinstance(thing, (type, ModuleType, FunctionType)):
            continue
        seen.add(id(thing))
        if isinstance(thing, torch.nn.Module):
            found.add(id(thing))
        open_ += gc.get_referents(thing)
    return found


def test_what_serves_is_a_tree_of_its_own_whatever_the_training_twin_does(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded)
    shared_models.publish(shared_models.state(), 1)
    served = shared_models.serving.model
    assert not modules_within_reach(served) & {id(m) for m in shared_models.training.modules()}
    for name, parameter in served.named_parameters():
        shared = parameter.data_ptr() == shared_models.training.get_parameter(name).data_ptr()
        assert shared == ("lora_" not in name), name
    said = served.generate(input_ids=PROMPT, max_new_tokens=5, do_sample=False)
    with torch.no_grad():
        for name, parameter in shared_models.training.named_parameters():
            if "lora_" in name:
                parameter.normal_()
    shared_models.training.train()
    assert not served.training and not any(m.training for m in served.modules())
    assert torch.equal(served.generate(input_ids=PROMPT, max_new_tokens=5, do_sample=False), said)


def scaled(state: AdapterState, by: float) -> AdapterState:
    return {name: torch.full_like(tensor, by) for name, tensor in state.items()}


def test_serving_trees_are_used_in_turn_and_never_while_somebody_holds_them(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded)
    state = shared_models.state()
    trees: set[int] = set()
    shared_models.publish(scaled(state, 0.3), 1)
    held = shared_models.serving.model
    logits = held(PROMPT).logits
    for version in range(2, 8):
        shared_models.publish(scaled(state, 0.3 * version), version)
        shared_models.serving.model.generate(input_ids=PROMPT, max_new_tokens=2, do_sample=False)
        trees.add(id(shared_models.serving.model.base_model))
        assert torch.equal(held(PROMPT).logits, logits)
    assert id(held.base_model) not in trees
    assert len(trees) == 2


def test_an_adapter_that_does_not_fit_costs_no_tree(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded)
    state = shared_models.state()
    for _ in range(5):
        with pytest.raises(AdapterInvalid):
            shared_models.with_adapter({k: v[:1] for k, v in state.items()})
    gc.collect()
    trees = set()
    for version in range(1, 5):
        shared_models.publish(state, version)
        trees.add(id(shared_models.serving.model.base_model))
    assert len(trees) == 2


def test_the_twins_share_every_base_tensor(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded)
    base = {p.data_ptr() for p in loaded.model.parameters()}
    trained = {p.data_ptr() for n, p in shared_models.training.named_parameters() if "lora_" not in n}
    assert trained == base


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attaching_lora_changes_no_dtype(tmp_path: Path, dtype: str) -> None:
    loaded = load_model(str(tiny_folder("qwen2", tmp_path / "m")), dtype=dtype)
    before = {n: p.dtype for n, p in loaded.model.named_parameters()}
    shared_models = shared_models_of(loaded)
    assert {n: p.dtype for n, p in loaded.model.named_parameters()} == before
    assert {p.dtype for n, p in shared_models.training.named_parameters() if "lora_" not in n} == {
        getattr(torch, dtype)
    }
    # the small trained part is float32, so that steps of 1e-5 are not rounded away
    assert {v.dtype for v in shared_models.state().values()} == {torch.float32}


def test_an_adapter_of_another_shape_is_refused(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded)
    state = shared_models.state()
    name = next(iter(state))
    with pytest.raises(AdapterInvalid, match="does not fit"):
        shared_models.load({**state, name: state[name][:1]})
    with pytest.raises(AdapterInvalid, match="missing or extra"):
        shared_models.load({k: v for k, v in state.items() if k != name})


def test_every_model_pauses_before_each_of_its_layers_but_not_the_one_they_were_made_from(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded)
    calls: list[str] = []
    shared_models.pause_before_layers(lambda: calls.append("an earlier learner's"))
    shared_models.pause_before_layers(lambda: calls.append("pause"))
    held = [shared_models.base, shared_models.training]
    for version in range(1, 5):  # more than there are spare trees: the others are copied meanwhile
        shared_models.publish(shared_models.state(), version)
        held.append(shared_models.serving.model)
    assert len({id(model.base_model) for model in held}) == 6
    for model in held:
        calls.clear()
        model(PROMPT)
        assert calls == ["pause"] * len(layers_of(loaded.model)) and len(calls) > 1
    calls.clear()
    loaded.model(PROMPT)
    assert not calls


def test_twins_that_served_an_adapter_are_freed_with_their_model(loaded: LoadedModel) -> None:
    shared_models = shared_models_of(loaded)
    shared_models.publish(shared_models.state(), 1)
    served = weakref.ref(shared_models.serving.model)
    gone = weakref.ref(shared_models)
    del shared_models
    gc.collect()
    assert gone() is None and served() is None
