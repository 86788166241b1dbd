"""The lean forward gives the logits of transformers' own, with and without an adapter, and shares the base's weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from spear_core.inference.fused_model import FusedModel, fuse_projections
from spear_core.inference.generation import Request, generate
from spear_core.models.shared_base import share_base
from tests.plain_generate import plain_tokens

V = 97
SIZES: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ROPE = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
KINDS: dict[str, Any] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "llama with biases": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True)),
    "llama 3 positions": lambda: LlamaForCausalLM(
        LlamaConfig(**SIZES, rope_parameters={**ROPE, "original_max_position_embeddings": 64}, tie_word_embeddings=True)
    ),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SIZES)),
}
PROMPT = [5, 9, 33, 61, 7, 8, 41]
LAYERS = {"all": "all-linear", "upper third": r".*layers\.2\..*_proj", "attention": ["q_proj", "v_proj"]}


def build(kind: str, dtype: torch.dtype = torch.float32) -> Any:
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = KINDS[kind]()
        for p in model.parameters():
            if p.ndim > 1:
                p.data.mul_(4)  # larger than the usual start, so that attention is not uniform
            else:
                p.data.add_(torch.rand_like(p))  # norms and biases too
    return model.to(dtype).eval()


def adapted(model: Any, layers: str = "all", seed: int = 1) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules=LAYERS[layers], task_type="CAUSAL_LM")
        peft = get_peft_model(share_base(model), config).eval()
        for name, p in peft.named_parameters():
            if "lora_" in name:
                p.data.normal_(std=0.3)
    return peft


@torch.inference_mode()
def own(model: Any, tokens: list[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([tokens])).logits[0, -1]


def lean(model: Any) -> FusedModel:
    fused = FusedModel.of(model)
    assert fused is not None
    return fused


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> bool:
    return float((ours.float() - theirs.float()).norm()) <= tolerance * float(theirs.float().norm())


def in_pieces(fused: FusedModel, tokens: list[int], cuts: list[int]) -> torch.Tensor:
    cache, used = fused.new_cache(len(tokens)), 0
    for cut in [*cuts, len(tokens)]:
        logits = fused.extend([(cache, used, tokens[used:cut])])
        used = cut
    return logits[0]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_transformers_whole_or_in_pieces(kind: str) -> None:
    model = build(kind)
    theirs = own(model, PROMPT)
    for cuts in ([], [3], [1, 2, 6], [4, 5, 6]):
        assert (in_pieces(lean(model), PROMPT, cuts) - theirs).abs().max() < 1e-4 * theirs.abs().max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", LAYERS)
def test_an_adapter_adds_what_peft_adds(kind: str, layers: str) -> None:
    base = build(kind)
    model = adapted(base, layers)
    theirs = own(model, PROMPT)
    assert not close(theirs, own(base, PROMPT), 1e-2)
    assert close(in_pieces(lean(model), PROMPT, [4, 6]), theirs, 1e-4)
    with model.disable_adapter():
        assert close(in_pieces(lean(model), PROMPT, [4]), own(base, PROMPT), 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_logits_differ_by_rounding_only(kind: str) -> None:
    exact, model = build(kind), build(kind, torch.bfloat16)
    error = float((own(model, PROMPT) - own(exact, PROMPT)).norm())
    ours = in_pieces(lean(model), PROMPT, [4, 6])
    assert float((ours - own(exact, PROMPT)).norm()) < 2 * error
    peft = adapted(model)
    assert {p.dtype for n, p in peft.named_parameters() if "lora_" in n} == {torch.float32}
    assert close(in_pieces(lean(peft), PROMPT, [4, 6]), own(peft, PROMPT), 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_adapter", [False, True])
def test_greedy_replies_are_those_of_generate(kind: str, with_adapter: bool) -> None:
    base = build(kind)
    model = adapted(base) if with_adapter else base
    prompts = [[(7 * i + 3 * j) % (V - 5) + 5 for j in range(1 + 5 * i)] for i in range(7)]
    made = generate(model, [Request(p, 12, frozenset({2})) for p in prompts])
    assert [m.tokens for m in made] == [plain_tokens(model, p, 12, [2]) for p in prompts]


def test_rows_together_give_what_each_gives_alone() -> None:
    fused = lean(build("llama"))
    rows = [PROMPT[:5], PROMPT[2:], [*PROMPT, *PROMPT]]
    alone = torch.stack([in_pieces(fused, row, [len(row) - 2]) for row in rows])
    caches = [fused.new_cache(20) for _ in rows]
    fused.extend([(cache, 0, row[:-2]) for cache, row in zip(caches, rows, strict=True)])
    together = fused.extend([(cache, len(row) - 2, row[-2:]) for cache, row in zip(caches, rows, strict=True)])
    assert close(together, alone, 1e-5)


def test_the_weights_stay_the_bases_own_and_training_goes_on() -> None:
    model = build("llama")
    before = copy.deepcopy(model.state_dict())
    twin = adapted(model)
    parameters = {name: id(p) for name, p in model.named_parameters()}
    fuse_projections(model)
    lean(model), lean(twin)
    assert {name: id(p) for name, p in model.named_parameters()} == parameters
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    attention = model.model.layers[0].self_attn
    whole = attention.q_proj.weight.untyped_storage().data_ptr()
    assert attention.k_proj.weight.untyped_storage().data_ptr() == whole
    shared = {p.data_ptr() for n, p in twin.named_parameters() if "lora_" not in n}
    assert shared == {p.data_ptr() for p in model.parameters()}
    twin(input_ids=torch.tensor([PROMPT]), labels=torch.tensor([PROMPT])).loss.backward()
    assert all(p.grad is not None for n, p in twin.named_parameters() if "lora_B" in n)


def test_an_adapter_that_changed_is_read_again() -> None:
    model = adapted(build("llama"))
    first = in_pieces(lean(model), PROMPT, [])
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_A" in name:
                p.mul_(-1)
    second = in_pieces(lean(model), PROMPT, [])
    assert not close(second, first, 1e-2) and close(second, own(model, PROMPT), 1e-4)


def test_what_is_called_before_a_layer_is_called_here_too() -> None:
    model, calls = build("llama"), list[int]()
    for number, layer in enumerate(model.model.layers):
        layer.register_forward_pre_hook(lambda *_, number=number: calls.append(number))
    in_pieces(FusedModel(model), PROMPT, [])
    assert calls == [0, 1, 2]


class Louder(LlamaForCausalLM):
    """Its configuration says llama, its forward does not."""

    def forward(self, *arguments: Any, **inputs: Any) -> Any:
        out = super().forward(*arguments, **inputs)
        out["logits"] = 30 * torch.tanh(out.logits / 3)
        return out


def test_other_models_are_left_to_their_own_forward() -> None:
    windowed = {**SIZES, "sliding_window": 8}
    for model in (
        MistralForCausalLM(MistralConfig(**windowed)),
        Gemma2ForCausalLM(Gemma2Config(**windowed)),
        LlamaForCausalLM(
            LlamaConfig(**SIZES, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
        ),
        Louder(LlamaConfig(**SIZES)),
        torch.nn.Linear(2, 2),
    ):
        assert FusedModel.of(model.eval()) is None
    dora = get_peft_model(build("llama"), LoraConfig(r=2, target_modules="all-linear", use_dora=True)).eval()
    assert FusedModel.of(dora) is None
