"""Batched replies are those of generate, one prompt at a time; rows leave, others take their place, prompts are shared."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from spear_core.inference.generation import Finish, Generated, Request, generate
from spear_core.inference.row_states import FusedRows, PaddedRows, SingleRows, begin
from spear_core.inference.token_choice import Choice, Chooser
from tests.plain_generate import plain_tokens

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
            "gpt2": lambda: GPT2LMHeadModel(
                GPT2Config(
                    vocab_size=V, n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=1, eos_token_id=2
                )
            ),
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


def greedy(questions: Sequence[list[int]], limit: int, ends: frozenset[int] = ENDS) -> list[Request]:
    return [Request(question, limit, ends) for question in questions]


def tokens_of(made: Sequence[Generated]) -> list[list[int]]:
    return [reply.tokens for reply in made]


def one_by_one(model: Any, questions: list[list[int]], limit: int) -> list[list[int]]:
    return [plain_tokens(model, question, limit, sorted(ENDS)) for question in questions]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "window", "mamba"])
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_greedy_replies_are_those_of_generate_alone(kind: str, batch_size: int) -> None:
    model, questions = tiny(kind), prompts(6 if kind in ("window", "mamba") else 17)
    ours = tokens_of(generate(model, greedy(questions, 12), batch_size=batch_size))
    alone = one_by_one(model, questions, 12)
    assert ours == alone
    if kind == "llama":
        assert len({len(t) for t in alone}) > 3  # replies did end at different times


@pytest.mark.parametrize(
    ("kind", "rows"), [("llama", FusedRows), ("gpt2", PaddedRows), ("window", SingleRows), ("mamba", SingleRows)]
)
def test_each_kind_of_model_is_computed_in_its_own_way(kind: str, rows: type) -> None:
    assert type(begin(tiny(kind), [[5]], [None], [1])[0]) is rows


def rows_a_forward(model: Any, run: Callable[[], Any]) -> list[tuple[int, int]]:
    """(rows, tokens a row) of every forward while `run` runs."""
    seen: list[tuple[int, int]] = []
    embedding = model.get_input_embeddings()
    hook = embedding.register_forward_hook(lambda m, args, out: seen.append(tuple(args[0].shape)))
    try:
        run()
    finally:
        hook.remove()
    return seen


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_rows_that_ended_leave_and_waiting_prompts_take_their_place(kind: str) -> None:
    model, questions = tiny(kind), prompts(24)
    generate(model, greedy(questions[:1], 1))  # a model is compared once with its own forward
    forwards = rows_a_forward(model, lambda: generate(model, greedy(questions, 12), batch_size=8))
    decoded = [rows for rows, width in forwards if width == 1]
    lengths = [len(t) for t in one_by_one(model, questions, 12)]
    assert max(decoded) <= 8
    # a token is decoded for rows that still want one only: at most one pass for each token of a reply
    assert sum(decoded) <= sum(lengths)
    assert len(decoded) < sum(max(lengths[i : i + 8]) for i in range(0, len(lengths), 8))  # of batches that wait


def test_equal_prompts_share_their_computation() -> None:
    model, questions = tiny("llama"), prompts(2)
    choice = Choice(temperature=1.0)
    requests = [Request(question, 3, frozenset(), choice) for question in questions for _ in range(4)]
    generate(model, requests[:1])
    forwards = rows_a_forward(model, lambda: generate(model, requests, batch_size=8))
    assert forwards == [(1, sum(map(len, questions))), (8, 1), (8, 1)]  # two prompts, once each


@pytest.mark.parametrize("kind", ["llama", "gpt2", "window", "mamba"])
def test_rows_that_share_a_prompt_go_their_own_ways(kind: str) -> None:
    model, question = tiny(kind), prompts(1)[0]
    banned = [(first,) for first in range(4, 9)]
    requests = [Request(question, 8, ENDS, Choice(banned=(b,))) for b in banned]
    alone = [generate(model, [request])[0].tokens for request in requests]
    assert tokens_of(generate(model, requests)) == alone
    assert all(b[0] not in tokens for b, tokens in zip(banned, alone, strict=True))


def test_samples_follow_the_models_distribution_and_the_seed() -> None:
    model, question = tiny("llama"), prompts(1)[0]
    requests = [Request(question, 1, frozenset(), Choice(temperature=0.8, top_p=1.0))] * 2000

    def drawn() -> list[int]:
        torch.manual_seed(9)
        return [t for (t,) in tokens_of(generate(model, requests, batch_size=500))]

    tokens = drawn()
    assert tokens == drawn()
    with torch.no_grad():
        p = (model(input_ids=torch.tensor([question])).logits[0, -1] / 0.8).softmax(-1)
    share = torch.bincount(torch.tensor(tokens), minlength=V) / len(tokens)
    assert (share - p).abs().max() < 0.05


def test_a_reply_stops_at_the_limit_and_keeps_no_end_token() -> None:
    model, questions = tiny("llama"), prompts(9)
    for reply in generate(model, greedy(questions, 5), batch_size=4):
        assert len(reply.tokens) <= 5
        assert not ENDS & set(reply.tokens)
        assert reply.finish == (Finish.LENGTH if len(reply.tokens) == 5 else Finish.ENDED)


def test_no_prompts_no_replies() -> None:
    assert generate(tiny("llama"), []) == []


def test_a_repetition_penalty_counts_the_reply_and_not_the_question() -> None:
    chooser = Chooser(Choice(repetition_penalty=2.0), prompt=[1], end_ids=frozenset())
    logits = torch.tensor([0.0, 5.0, 4.0, 3.0])
    assert chooser.choose(logits, []) == 1, "a word of the question may be said"
    assert chooser.choose(logits, [1]) == 2  # 5 / 2 = 2.5 < 4
    assert chooser.choose(logits, [1, 2]) == 3  # 2.5, 4 / 2 = 2, 3
