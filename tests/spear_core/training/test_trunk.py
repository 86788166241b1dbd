"""LoRA in the upper layers: the lower ones are computed once a text, and nothing that is computed from them differs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import get_peft_model
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from spear_core.config import preset
from spear_core.models.shared_base import SharedBaseModels, lora_config, share_base
from spear_core.training import scoring
from spear_core.training.scoring import predict
from spear_core.training.traces import Encoded
from spear_core.training.trunk import TrunkCache, drop_kept_states, first_adapted, text_key, trunk_of
from tests.tiny_models import tiny_folder

V = 64
SIZES: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
GPT2_SIZES: dict[str, Any] = {"vocab_size": V, "n_embd": 32, "n_layer": 6, "n_head": 4, "n_positions": 128}
MODELS: dict[str, Any] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2_SIZES, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)),
    "window": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=16)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, sliding_window=16)),
}
CUT = {"llama", "qwen2"}  # the others take the whole way: windows, positions or scales that enter with the tokens


def adapted(kind: str, layers: str = "upper_third", dtype: torch.dtype = torch.float64) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        base = MODELS[kind]().eval().to(dtype)
        for p in base.parameters():  # larger than the usual start, so that a wrong mask shows
            if p.ndim > 1:
                p.data.mul_(4)
        config = lora_config(preset("live", lora_layers=layers), base)
        model = get_peft_model(base, config).eval().to(dtype)
        for name, p in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(p, std=0.05)
    return model


def example(prompt: Sequence[int], completion: Sequence[int]) -> Encoded:
    return Encoded(tuple(prompt), tuple(completion), (True,) * len(completion))


def computed(model: Any, examples: Sequence[Encoded]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    scores = predict(model, examples, 0, every_token=True).scores()
    scores.logps.sum().backward()
    return scores.logps.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def whole(model: Any, examples: Sequence[Encoded], monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "trunk_of", lambda model: None)
        return computed(model, examples)


@pytest.fixture(scope="module")
def llama() -> Any:
    torch.set_num_threads(1)
    return adapted("llama")


tokens = st.lists(st.integers(2, V - 1), min_size=1, max_size=14)
batches = st.lists(st.tuples(st.integers(0, 3), tokens, tokens), min_size=1, max_size=6)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches)
def test_losses_and_gradients_are_those_of_the_whole_model(
    llama: Any, monkeypatch: pytest.MonkeyPatch, batch: list[tuple[int, list[int], list[int]]]
) -> None:
    prompts: dict[int, list[int]] = {}
    examples = [example(prompts.setdefault(number, prompt), completion) for number, prompt, completion in batch]
    assert trunk_of(llama) is not None
    expected, gradients = whole(llama, examples, monkeypatch)
    for _ in range(2):  # computed, then from the cache
        got, own = computed(llama, examples)
        assert torch.allclose(got, expected, rtol=1e-9, atol=1e-9)
        assert own.keys() == gradients.keys()
        assert all(torch.allclose(own[name], gradients[name], rtol=1e-7, atol=1e-9) for name in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_text_alone_comes_out_bit_equal(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted("llama", dtype=dtype)
    alone = [example([5, 6, 7, 8], [9, 10, 11])]
    expected, gradients = whole(model, alone, monkeypatch)
    got, own = computed(model, alone)
    assert torch.equal(got, expected)
    assert all(torch.equal(own[name], gradients[name]) for name in gradients)


def test_what_the_cache_holds_changes_no_bit(llama: Any) -> None:
    texts = [example([5, 6, 7], [8, 9]), example([5, 6, 7], [10]), example([4, 3, 5, 9], [8, 8, 9])]
    first, _ = computed(llama, texts)
    drop_kept_states(llama)
    computed(llama, texts[2:])
    again, _ = computed(llama, texts)
    assert torch.equal(first, again)


def test_all_adapters_over_one_base_share_what_is_kept() -> None:
    first = adapted("llama")
    second = share_base(first)
    trunks = [trunk_of(model) for model in (first, second)]
    assert trunks[0] is not None and trunks[1] is not None
    assert trunks[0].cache is trunks[1].cache
    other = trunk_of(adapted("llama"))
    assert other is not None and other.cache is not trunks[0].cache


@pytest.mark.parametrize("kind", list(MODELS))
def test_every_kind_of_model_gives_what_it_gives_uncut(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(kind)
    texts = [example(range(2, 9), range(9, 14)), example(range(2, 9), range(20, 23)), example([3, 4], [5])]
    assert (trunk_of(model) is not None) == (kind in CUT)
    expected, _ = whole(model, texts, monkeypatch)
    got, _ = computed(model, texts)
    assert torch.allclose(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("layers", "first"), [("all", 0), ("upper_half", 3), ("upper_third", 4)])
def test_the_setting_says_which_layers_are_adapted(layers: str, first: int) -> None:
    model = adapted("llama", layers)
    adapted_layers = {int(n.split("layers.")[1].split(".")[0]) for n, _ in model.named_parameters() if "lora_" in n}
    assert adapted_layers == set(range(first, 6))
    assert first_adapted(model.get_base_model().base_model) == first
    kinds = {n.split(".lora_")[0].rpartition(".")[2] for n, _ in model.named_parameters() if "lora_" in n}
    assert kinds == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_the_lower_layers_run_once_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted("llama")
    trunk = trunk_of(model)
    assert trunk is not None
    runs: list[int] = []
    model.get_base_model().base_model.layers[0].register_forward_hook(lambda *_: runs.append(1))
    texts = [example([5, 6, 7], [8, 9]), example([4, 3], [8])]
    for _ in range(3):
        computed(model, texts)
    assert len(runs) == 2 and len(trunk.cache) == 2


def test_the_cache_is_bounded_and_drops_what_was_used_longest_ago() -> None:
    cache = TrunkCache(limit_bytes=3 * 40)
    texts = [example([i], [i]) for i in range(4)]
    for e in texts[:3]:
        cache.add(text_key(e), torch.zeros(10))
    assert cache.get(text_key(texts[0])) is not None
    cache.add(text_key(texts[3]), torch.zeros(10))
    assert cache.bytes == 120 and cache.get(text_key(texts[1])) is None and cache.get(text_key(texts[0])) is not None


def test_what_is_erased_leaves_the_cache(llama: Any) -> None:
    kept, erased = example([5, 6, 7], [8, 9]), example([4, 3], [8])
    computed(llama, [kept, erased])
    drop_kept_states(llama, keep=[kept])
    trunk = trunk_of(llama)
    assert trunk is not None and len(trunk.cache) == 1
    assert trunk.cache.get(text_key(erased)) is None and trunk.cache.get(text_key(kept)) is not None


def test_two_models_over_one_base_serve_adapters_of_the_upper_layers(tmp_path: Path) -> None:
    from spear_core.models.loading import load_model

    loaded = load_model(str(tiny_folder("llama3", tmp_path / "tiny")))
    shared_models = SharedBaseModels(loaded.model, preset("live", lora_layers="upper_half"), seed=3)
    count = loaded.model.config.num_hidden_layers
    assert all(f"layers.{count - 1}." in name for name in shared_models.state()) == (count == 2)
    shared_models.publish({name: tensor + 0.1 for name, tensor in shared_models.state().items()}, 1)
    shared_models.load({name: tensor + 0.1 for name, tensor in shared_models.state().items()})
    text = [example([5, 6, 7], [8, 9])]
    with torch.no_grad():
        served = predict(shared_models.serving.model, text, 0).values
        trained = predict(shared_models.training, text, 0).values
    assert torch.equal(served, trained)
