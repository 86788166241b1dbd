"""Adapters between this project and plain PEFT: both compute the same, or the difference is refused by name."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from spear_core.config import SpearConfig
from spear_core.errors import AdapterInvalid
from spear_core.models.adapters import CONFIG, WEIGHTS, save_adapter
from spear_core.models.foreign_adapters import FIELDS, Treatment, fit, read_config
from spear_core.models.shared_base import AdapterState, SharedBaseModels, lora_config
from tests.tiny_models import tiny_folder

CLOSE = 1e-4  # largest difference of two logits at float32
SPEAR = SpearConfig(lora_rank=8, lora_alpha=16)
IDS = torch.arange(3, 40).reshape(1, -1)
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

SERVED: dict[str, dict[str, Any]] = {
    "ours": {"r": 8, "lora_alpha": 16},
    "another alpha": {"r": 8, "lora_alpha": 5},
    "a lower rank": {"r": 3, "lora_alpha": 4},
    "rank 1": {"r": 1, "lora_alpha": 1},
    "PEFT's default modules": {"r": 8, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
    "one matrix by its path": {"r": 4, "target_modules": ["model.layers.1.mlp.down_proj"]},
    "rsLoRA": {"r": 8, "lora_alpha": 16, "use_rslora": True},
    "rsLoRA of a lower rank": {"r": 2, "lora_alpha": 16, "use_rslora": True},
    "alpha_pattern": {"r": 8, "lora_alpha": 16, "alpha_pattern": {"q_proj": 64, "layers.0.mlp.up_proj": 2}},
    "alpha_pattern as an expression": {"r": 8, "lora_alpha": 16, "alpha_pattern": {r"model\.layers\.\d+\.mlp\.\w+": 4}},
    "alpha_pattern from the start": {"r": 8, "alpha_pattern": {"^model.layers.0.self_attn.q_proj": 40}},
    "rank_pattern": {"r": 8, "lora_alpha": 16, "rank_pattern": {"k_proj": 2, "down_proj": 5}},
    "both patterns": {"r": 4, "rank_pattern": {"q_proj": 7}, "alpha_pattern": {"q_proj": 3, "v_proj": 9}},
    "rsLoRA with patterns": {"r": 4, "use_rslora": True, "rank_pattern": {"q_proj": 7}, "alpha_pattern": {"v_proj": 9}},
    "one layer": {"r": 8, "layers_to_transform": [1]},
    "a layer by number": {"r": 8, "layers_to_transform": 0, "layers_pattern": "layers"},
    "without some": {"r": 8, "exclude_modules": ["q_proj"]},
    "with dropout": {"r": 8, "lora_dropout": 0.3},
    "gaussian": {"r": 8, "init_lora_weights": "gaussian"},
    "orthogonal": {"r": 8, "init_lora_weights": "orthogonal"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder("llama3", tmp_path_factory.mktemp("model") / "m")


def base_of(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def shared(folder: Path) -> SharedBaseModels:
    return SharedBaseModels(base_of(folder), SPEAR)


def trained(folder: Path, target: Path, **config: Any) -> torch.Tensor:
    """An adapter of PEFT's as if it had been trained, in `target`. Returns the logits of the model with it."""
    torch.manual_seed(4)
    given = {"target_modules": LINEAR, "task_type": "CAUSAL_LM", **config}
    model = get_peft_model(base_of(folder), LoraConfig(**given))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.3)
    model.save_pretrained(target)
    return logits(PeftModel.from_pretrained(base_of(folder), target))


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(input_ids=IDS).logits  # (1, T, V)


def read(target: Path, initial: AdapterState) -> AdapterState:
    config = read_config(json.loads((target / CONFIG).read_text()))
    return fit(load_file(target / WEIGHTS), config, initial, SPEAR.lora_alpha / SPEAR.lora_rank)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def test_the_table_has_every_field_of_peft_and_no_other() -> None:
    assert set(FIELDS) == {f.name for f in fields(LoraConfig)}, "decide what becomes of a field before it is served"


@pytest.mark.parametrize("name", SERVED)
def test_what_is_served_is_what_peft_computes(
    folder: Path, shared: SharedBaseModels, tmp_path: Path, name: str
) -> None:
    expected = trained(folder, tmp_path, **SERVED[name])
    state = read(tmp_path, shared.initial)
    assert {n: (t.shape, t.dtype) for n, t in state.items()} == {
        n: (t.shape, t.dtype) for n, t in shared.initial.items()
    }
    assert difference(logits(shared.base), expected) > 0.01, "the adapter does something"
    assert difference(logits(shared.with_adapter(state)), expected) < CLOSE


@pytest.mark.parametrize("layers", ["all", "upper_half", "upper_third"])
@pytest.mark.parametrize(("rank", "alpha"), [(8, 16), (4, 8), (16, 8), (1, 3)])
def test_an_adapter_of_this_project_loads_in_plain_peft(
    folder: Path, tmp_path: Path, layers: Any, rank: int, alpha: int
) -> None:
    config = SpearConfig(lora_layers=layers, lora_rank=rank, lora_alpha=alpha)
    models = SharedBaseModels(base_of(folder), config)
    torch.manual_seed(5)
    state = {name: torch.randn_like(tensor) * 0.2 for name, tensor in models.state().items()}
    save_adapter(tmp_path / "v1", state, lora_config(config, models.base), "m", {})
    elsewhere = logits(PeftModel.from_pretrained(base_of(folder), tmp_path / "v1"))
    assert difference(logits(models.with_adapter(state)), elsewhere) < CLOSE
    assert difference(logits(models.base), elsewhere) > 0.01
    merged = PeftModel.from_pretrained(base_of(folder), tmp_path / "v1").merge_and_unload()
    assert difference(logits(merged), elsewhere) < CLOSE


def test_what_is_filled_up_can_be_trained_on(folder: Path, shared: SharedBaseModels, tmp_path: Path) -> None:
    trained(folder, tmp_path, r=2, target_modules=["q_proj"])
    state = read(tmp_path, shared.initial)
    shared.load(state)
    shared.training.requires_grad_(False)
    watched = {n: p for n, p in shared.training.named_parameters() if "lora_B" in n}
    for parameter in watched.values():
        parameter.requires_grad_(True)
    shared.training(input_ids=IDS, labels=IDS).loss.backward()
    assert all(p.grad is not None and bool((p.grad.abs().sum(0) > 0).all()) for p in watched.values())
    shared.training.requires_grad_(False)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"use_dora": True}, "use_dora = True"),
    ({"lora_bias": True}, "lora_bias = True"),
    ({"bias": "lora_only"}, "changes biases"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
    ({"layer_replication": [[0, 1], [0, 2]]}, "layer_replication"),
    ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "target_parameters"),
    ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
    ({"use_qalora": True}, "use_qalora"),
    ({"megatron_config": {"x": 1}}, "megatron_config"),
    ({"velora_config": {"x": 1}}, "velora_config"),
    ({"monteclora_config": {"x": 1}}, "monteclora_config"),
    ({"use_bdlora": {"x": 1}}, "use_bdlora"),
    ({"arrow_config": {"x": 1}}, "arrow_config"),
    ({"kasa_config": {"x": 1}}, "kasa_config"),
    ({"init_lora_weights": "pissa"}, "initialised by pissa"),
    ({"init_lora_weights": "pissa_niter_4"}, "initialised by pissa_niter_4"),
    ({"init_lora_weights": "olora"}, "initialised by olora"),
    ({"init_lora_weights": "loftq"}, "initialised by loftq"),
    ({"init_lora_weights": "mica"}, "initialised by mica"),
    ({"init_lora_weights": ["x"]}, "initialised by"),
    ({"a_new_trick": True}, "uses a_new_trick, which is not known here"),
    ({"peft_type": "LOHA"}, "of type LOHA"),
    ({"r": 0}, "r must be a number above 0"),
    ({"r": "8"}, "r must be a number above 0"),
    ({"r": 2.5}, "r must be a whole number"),
    ({"lora_alpha": None}, "lora_alpha must be a number above 0"),
    ({"lora_alpha": float("nan")}, "lora_alpha must be a number above 0"),
    ({"use_rslora": "yes"}, "use_rslora must be true or false"),
    ({"alpha_pattern": [1]}, "alpha_pattern must name modules"),
    ({"alpha_pattern": {"q_proj": "x"}}, "alpha_pattern must be a number"),
    ({"alpha_pattern": {"(q|k)+_proj": 3}}, "a pattern that is not read here"),
    ({"rank_pattern": {"(": 3}}, "a pattern that is not read here"),
    ({"rank_pattern": {"q_proj" * 50: 3}}, "a pattern that is not read here"),
]
OFF = {"peft_type": "LORA", "r": 8, "lora_alpha": 16}


@pytest.mark.parametrize(("change", "sentence"), REFUSED)
def test_what_would_compute_otherwise_is_refused_by_name(change: dict[str, Any], sentence: str) -> None:
    read_config(OFF)
    with pytest.raises(AdapterInvalid) as refusal:
        read_config({**OFF, **change})
    assert sentence in str(refusal.value)


def test_every_field_that_must_be_off_is_among_the_refused() -> None:
    must_be_off = {name for name, treatment in FIELDS.items() if treatment is Treatment.DEFAULT_ONLY}
    assert must_be_off <= {name for change, _ in REFUSED for name in change}
    read_config({**LoraConfig().to_dict(), "peft_type": "LORA"})  # what PEFT writes for a plain one


@pytest.mark.parametrize("config", [None, [], "x", 7, {}])
def test_a_config_that_is_none_is_refused(config: object) -> None:
    with pytest.raises(AdapterInvalid):
        read_config(config)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"r": 16}, "set lora_rank = 16"),
        ({"r": 8, "rank_pattern": {"q_proj": 9}}, "q_proj has rank 9, and this instance works with rank 8"),
        ({"r": 8, "target_modules": ["embed_tokens"]}, "no LoRA matrix of a linear map"),
        (
            {"r": 8, "target_modules": ["lm_head", "q_proj"]},
            "the adapter holds base_model.model.lm_head.base_layer.weight",
        ),
    ],
)
def test_what_does_not_fit_says_which_and_why(
    folder: Path, shared: SharedBaseModels, tmp_path: Path, config: dict[str, Any], sentence: str
) -> None:
    trained(folder, tmp_path, **config)
    with pytest.raises(AdapterInvalid) as refusal:
        read(tmp_path, shared.initial)
    assert sentence in str(refusal.value)


def test_an_adapter_of_more_layers_than_are_adapted_here_is_refused(folder: Path, tmp_path: Path) -> None:
    upper = SharedBaseModels(base_of(folder), SpearConfig(lora_layers="upper_half"))
    trained(folder, tmp_path, r=8)
    with pytest.raises(AdapterInvalid, match=r'changes 7 matrices .* model.layers.0.*lora_layers under .*"all"'):
        read(tmp_path, upper.initial)
    trained(folder, tmp_path / "one", r=8, layers_to_transform=[1])
    assert read(tmp_path / "one", upper.initial).keys() == upper.initial.keys()


def test_an_adapter_of_another_model_is_refused(shared: SharedBaseModels, tmp_path: Path) -> None:
    other = tiny_folder("qwen2", tmp_path / "other")
    trained(other, tmp_path / "adapter", r=8)
    state = load_file(tmp_path / "adapter" / WEIGHTS)
    config = read_config(OFF)
    wider = {
        name: torch.zeros(tensor.shape[0] * 2, tensor.shape[1]) for name, tensor in state.items() if "lora_B" in name
    }
    with pytest.raises(AdapterInvalid, match="trained on another model"):
        fit({**state, **wider}, config, shared.initial, 2.0)


def test_half_an_adapter_and_numbers_that_are_none_are_refused(shared: SharedBaseModels) -> None:
    config = read_config(OFF)
    name = next(name for name in shared.initial if "lora_A" in name)
    with pytest.raises(AdapterInvalid, match="without its other half"):
        fit({name: shared.initial[name]}, config, shared.initial, 2.0)
    with pytest.raises(AdapterInvalid, match="not finite"):
        fit({n: torch.full_like(t, torch.nan) for n, t in shared.initial.items()}, config, shared.initial, 2.0)
    with pytest.raises(AdapterInvalid, match="no tensors"):
        fit({}, config, shared.initial, 2.0)
