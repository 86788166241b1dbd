"""Batched replies are those of generate, one prompt at a time; rows leave, others take their place, prompts are shared."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from spear_core.inference.decoding import Decoding
from spear_core.inference.rollout import generate_tokens

V = 40
ENDS = frozenset({1, 2, 3})
SIZES: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


def tiny(kind: str) -> Any:
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model: Any = {
            "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
            "window": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=8)),
            "mamba": lambda: MambaForCausalLM(
                MambaConfig(vocab_size=V, hidden_size=16, num_hidden_layers=2, state_size=4, use_mambapy=False)
            ),
        }[kind]()
        for p in model.parameters():  # larger than the usual start, so that replies differ and end at different times
            if p.ndim > 1:
                p.data.mul_(6 if kind != "mamba" else 1)
    return model.eval()


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(4, V) for _ in range(rng.randint(1, 20))] for _ in range(count)]


def one_by_one(model: Any, questions: list[list[int]], decoding: Decoding) -> list[list[int]]:
    out = []
    for ids in questions:
        made = model.generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=decoding.new_tokens,
            eos_token_id=sorted(decoding.end_ids),
            pad_token_id=0,
            do_sample=False,
        )[0, len(ids) :].tolist()
        out.append([t for t in made if t not in decoding.end_ids])
    return out


@pytest.mark.parametrize("kind", ["llama", "window", "mamba"])
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_greedy_replies_are_those_of_generate_alone(kind: str, batch_size: int) -> None:
    model, questions, decoding = tiny(kind), prompts(17 if kind == "llama" else 6), Decoding(12, ENDS, pad_id=0)
    ours = [first for (first,) in generate_tokens(model, questions, decoding, batch_size=batch_size)]
    alone = one_by_one(model, questions, decoding)
    assert ours == alone
    if kind == "llama":
        assert len({len(t) for t in alone}) > 3  # replies did end at different times


def rows_a_forward(model: Any, run: Any) -> list[tuple[int, int]]:
    """(rows, tokens a row) of every forward while `run` runs."""
    seen: list[tuple[int, int]] = []
    embedding = model.get_input_embeddings()
    hook = embedding.register_forward_hook(lambda m, args, out: seen.append(tuple(args[0].shape)))
    try:
        run()
    finally:
        hook.remove()
    return seen


def test_rows_that_ended_leave_and_waiting_prompts_take_their_place() -> None:
    model, questions, decoding = tiny("llama"), prompts(24), Decoding(12, ENDS, pad_id=0)
    forwards = rows_a_forward(model, lambda: generate_tokens(model, questions, decoding, batch_size=8))
    decoded = [rows for rows, width in forwards if width == 1]
    lengths = [len(t) for t in one_by_one(model, questions, decoding)]
    assert max(decoded) <= 8
    # a token is decoded for rows that still want one only: at most one pass for each token of a reply
    assert sum(decoded) <= sum(lengths)
    assert len(decoded) < sum(max(lengths[i : i + 8]) for i in range(0, len(lengths), 8))  # of batches that wait


def test_samples_of_a_prompt_share_its_computation() -> None:
    model, questions = tiny("llama"), prompts(2)
    decoding = Decoding(3, frozenset(), pad_id=0, temperature=1.0)
    forwards = rows_a_forward(model, lambda: generate_tokens(model, questions, decoding, batch_size=8, samples=4))
    assert forwards[0] == (2, max(map(len, questions)))  # two prompts, once each
    assert [rows for rows, width in forwards[1:]] == [8, 8]


def test_samples_follow_the_models_distribution_and_the_seed() -> None:
    model, question = tiny("llama"), prompts(1)
    decoding = Decoding(1, frozenset(), pad_id=0, temperature=0.8, top_p=1.0)

    def drawn() -> list[int]:
        torch.manual_seed(9)
        return [t for (t,) in generate_tokens(model, question, decoding, batch_size=500, samples=2000)[0]]

    tokens = drawn()
    assert tokens == drawn()
    with torch.no_grad():
        p = (model(input_ids=torch.tensor(question)).logits[0, -1] / 0.8).softmax(-1)
    share = torch.bincount(torch.tensor(tokens), minlength=V) / len(tokens)
    assert (share - p).abs().max() < 0.05


def test_top_p_leaves_the_unlikely_out() -> None:
    # p = .5, .3, .15, .05: within .75 are the first two
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().repeat(500, 1)
    chosen = Decoding(1, frozenset(), 0, temperature=1.0, top_p=0.75).choose(logits)
    assert set(chosen.tolist()) == {0, 1}


def test_a_reply_stops_at_the_limit_and_keeps_no_end_token() -> None:
    model, questions = tiny("llama"), prompts(9)
    for (tokens,) in generate_tokens(model, questions, Decoding(5, ENDS, pad_id=0), batch_size=4):
        assert len(tokens) <= 5
        assert not ENDS & set(tokens)


def test_no_prompts_no_replies() -> None:
    assert generate_tokens(tiny("llama"), [], Decoding(5, ENDS, pad_id=0), batch_size=4) == []


def test_an_empty_cache_is_what_a_plain_model_gets() -> None:
    # what generate_tokens relies on: a window gives the cache another kind of layer
    kinds = {k: {type(x).__name__ for x in DynamicCache(config=tiny(k).config).layers} for k in ("llama", "window")}
    assert kinds == {"llama": {"DynamicLayer"}, "window": {"DynamicSlidingWindowLayer"}}
