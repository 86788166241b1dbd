"""The fast step is the obvious one: same losses, same gradients, whatever the lengths, masks and architecture."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from spear_core.models.decoder_layers import checkpointed
from spear_core.training import head as head_module
from spear_core.training.ability import ability
from spear_core.training.head import kl_from_base, target_logps
from spear_core.training.losses import lose_loss, tail_mask, win_loss
from spear_core.training.packing import batches_by_prompt, common_beginning, fill, pack
from spear_core.training.scoring import predict, score, score_rows
from spear_core.training.traces import Encoded
from tests.reference.obvious_step import obvious_losses

V = 64
END = 1
SIZES: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
GPT2_SIZES: dict[str, Any] = {"vocab_size": V, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "eager": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, attn_implementation="eager")),
    "window": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=16)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, sliding_window=16)),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.25)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2_SIZES, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)),
    "bloom": lambda: BloomForCausalLM(BloomConfig(vocab_size=V, hidden_size=32, n_layer=2, n_head=4)),
    "mamba": lambda: MambaForCausalLM(
        MambaConfig(vocab_size=V, hidden_size=16, num_hidden_layers=2, state_size=4, use_mambapy=False)
    ),
}
PACKS = {"llama", "qwen2", "eager", "window", "gemma2", "cohere", "gpt2"}
PLAIN = {"llama", "qwen2", "eager", "window", "gpt2", "bloom", "mamba"}
_built: dict[str, Any] = {}


def adapted(kind: str) -> Any:
    """A tiny float32 model with a LoRA that already does something, the same one each time."""
    if kind not in _built:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            base = MODELS[kind]().eval()
            for p in base.parameters():  # larger than the usual start, so that a wrong mask shows in the losses
                if p.ndim > 1:
                    p.data.mul_(4)
            targets = ["in_proj"] if kind == "mamba" else "all-linear"  # PEFT refuses the other layers of Mamba
            model = get_peft_model(base, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM")).eval()
            for name, p in model.named_parameters():
                if "lora_B" in name:
                    nn.init.normal_(p, std=0.05)
        _built[kind] = model
    return _built[kind]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def example(
    prompt: Sequence[int], completion: Sequence[int], mask: Sequence[bool] | None = None, c: float = 1.0
) -> Encoded:
    return Encoded(tuple(prompt), tuple(completion), tuple(mask or [True] * len(completion)), c)


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def fast_losses(model: Any, wins: Sequence[Encoded], loses: Sequence[Encoded], margin: float) -> tuple[Tensor, Tensor]:
    both = [*wins, *loses]
    scores = score(model, both, pad_id=0)
    confidence = torch.tensor([e.confidence for e in both])
    mask = scores.scored.float()
    n = len(wins)
    return (
        win_loss(scores.logps[:n], mask[:n], confidence[:n]),
        lose_loss(scores.logps[n:], mask[n:], confidence[n:], margin),
    )


def assert_same_step(model: Any, wins: Sequence[Encoded], loses: Sequence[Encoded], margin: float) -> None:
    fast, slow = fast_losses(model, wins, loses, margin), obvious_losses(model, wins, loses, 0, margin)
    for ours, theirs in zip(fast, slow, strict=True):
        assert ours.item() == pytest.approx(theirs.item(), abs=1e-5, rel=1e-5)
    ours, theirs = gradients(model, fast[0] + 0.7 * fast[1]), gradients(model, slow[0] + 0.7 * slow[1])
    assert ours.keys() == theirs.keys() and len(ours) > 0
    whole = torch.cat([g.flatten() for g in theirs.values()])
    difference = torch.cat([(ours[n] - g).flatten() for n, g in theirs.items()])
    assert whole.norm() > 0
    assert difference.norm() <= 1e-4 * whole.norm()


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[Encoded], list[Encoded], float]:
    """One to three pairs over prompts of their own or of each other; tails and margins as the presets have them."""
    token = st.integers(2, V - 1)
    prompts = draw(st.lists(st.lists(token, min_size=1, max_size=14), min_size=1, max_size=3))
    tail = draw(st.sampled_from([0, 1, 3]))
    wins, loses = [], []
    for side, most in ((wins, 3), (loses, 3)):
        for _ in range(draw(st.integers(1, most))):
            completion = [*draw(st.lists(token, max_size=9)), END]
            mask = tail_mask(completion, tail, {END}) if side is loses else None
            confidence = draw(st.sampled_from([0.25, 0.5, 1.0]))
            side.append(example(draw(st.sampled_from(prompts)), completion, mask, confidence))
    return wins, loses, draw(st.sampled_from([0.0, 0.01, 0.3]))


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(batch=batches())
def test_the_packed_step_is_the_obvious_step(kind: str, batch: tuple[list[Encoded], list[Encoded], float]) -> None:
    assert_same_step(adapted(kind), *batch)


PROMPT = [5, 9, 33, 21, 7]
OTHER = [8, 8, 60]
LONG = [(3 * i + 2) % (V - 2) + 2 for i in range(20)]  # longer than the window of "window" and "gemma2"
WINS = [example(PROMPT, [12, 40, 18, END]), example(OTHER, [30, END], c=0.5)]
LOSES = [example(PROMPT, [50, 40, END], [True, True, False]), example(PROMPT, [2, 3, 4, 5, END], [True] * 4 + [False])]


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_every_architecture_gets_the_obvious_losses_and_gradients(kind: str) -> None:
    assert_same_step(adapted(kind), WINS, LOSES, margin=0.0)


@pytest.mark.parametrize("kind", ["window", "gemma2"])
def test_rows_beyond_a_sliding_window_are_right_too(kind: str) -> None:
    wins, loses = [example(LONG, [12, 40, 18, END])], [example(LONG, [50, 40, END])]
    assert_same_step(adapted(kind), wins, loses, margin=0.0)


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_what_a_model_cannot_take_is_found_by_trying_and_said(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    model = MODELS[kind]().requires_grad_(False).eval()
    with caplog.at_level(logging.WARNING):
        able = ability(model)
        ability(model)
    assert (able.packs, able.plain_head) == (kind in PACKS, kind in PLAIN), able.why
    said = [r for r in caplog.records if r.name == "spear_core.training.ability"]
    assert len(said) == (0 if kind in PACKS and kind in PLAIN else 1)  # once, not at every step


def counted_tokens(model: Any, run: Callable[[], Any]) -> int:
    """Tokens that go through the backbone's first layer while `run` runs."""
    seen: list[int] = []
    layer = model.get_base_model().model.layers[0]
    hook = layer.register_forward_pre_hook(lambda m, args: seen.append(args[0].shape[0] * args[0].shape[1]))
    try:
        run()
    finally:
        hook.remove()
    return sum(seen)


def test_a_prompt_is_computed_once_for_all_its_completions() -> None:
    model = adapted("llama")
    ability(model)
    batch = [example(LONG, [30, 31, END]), example(LONG, [40, END]), example(LONG, [50, 51, END])]
    assert counted_tokens(model, lambda: score(model, batch, 0)) == len(LONG) + 3 + 2 + 3


def test_a_completion_never_sees_its_sibling() -> None:
    model = adapted("llama")
    with torch.no_grad():
        one = score(model, [example(PROMPT, [12, 40, END]), example(PROMPT, [50, 41, END])], 0)
        two = score(model, [example(PROMPT, [33, 3, END]), example(PROMPT, [50, 41, END])], 0)
    assert torch.equal(one.logps[1], two.logps[1])
    assert not torch.equal(one.logps[0], two.logps[0])


def test_the_mask_shows_the_prompt_and_oneself_and_nothing_else() -> None:
    # prompt 5 6, completions 7 8 and 9; a second row 5, 4 is padded
    packed = pack([example([5, 6], [7, 8]), example([5], [4]), example([5, 6], [9])], pad_id=0)
    assert packed.ids.tolist() == [[5, 6, 7, 8, 9], [5, 4, 0, 0, 0]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 2], [0, 1, 0, 0, 0]]
    assert packed.may_see()[0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],  # 9 does not see 7 and 8
    ]
    assert packed.may_see()[1].int().tolist()[2:] == [[0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    # example after example; each token is predicted one place before it, the first ones by the prompt's last
    assert list(zip(packed.rows.tolist(), packed.columns.tolist(), packed.targets.tolist(), strict=True)) == [
        (0, 1, 7), (0, 2, 8), (1, 0, 4), (0, 1, 9),
    ]  # fmt: skip


def test_prompts_that_share_a_row_do_not_see_each_other() -> None:
    packed = pack([example([5, 6], [7]), example([8], [9])], pad_id=0, row_tokens=5)
    assert packed.ids.tolist() == [[5, 6, 7, 8, 9]]
    assert packed.positions.tolist() == [[0, 1, 2, 0, 1]]
    assert packed.may_see()[0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]


def test_rows_are_filled_and_none_is_longer_than_the_room_or_the_longest() -> None:
    assert fill([3, 9, 4, 5, 2], 9) == [[1], [3, 2], [0, 4]]
    assert fill([3, 12, 4], 9) == [[1], [2, 0]]
    assert fill([3, 4], 0) == [[0], [1]]
    assert fill([], 9) == []


def test_only_masked_tokens_are_scored_unless_all_are_asked_for() -> None:
    batch = [example(PROMPT, [12, 40, END], [False, True, False])]
    assert score(adapted("llama"), batch, 0).scored.tolist() == [[False, True, False]]
    assert score(adapted("llama"), batch, 0, every_token=True).scored.all()


def test_an_example_without_a_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="without a prompt"):
        pack([example([], [5])], 0)


def test_hits_are_the_greedy_answer() -> None:
    model = adapted("llama")
    with torch.no_grad():
        greedy = model(input_ids=torch.tensor([PROMPT])).logits[0, -1].argmax().item()
        scores = score(model, [example(PROMPT, [greedy, END]), example(PROMPT, [(greedy + 1) % V, END])], 0)
    assert scores.hits[:, 0].tolist() == [True, False]


def test_completions_of_a_prompt_stay_in_one_batch_and_none_is_lost() -> None:
    a, b, c = ([example(p, [9])] for p in ([1], [2], [3]))
    # prompts 1 2 1 3 3 1: three of the first, one of the second, two of the third
    batch = [*a, *b, *a, *c, *c, *a]
    assert list(batches_by_prompt(batch, 4)) == [[0, 2, 5, 1], [3, 4]]
    assert list(batches_by_prompt(batch, 3)) == [[0, 2, 5], [1, 3, 4]]
    assert list(batches_by_prompt(batch, 2)) == [[0, 2], [5, 1], [3, 4]]  # three cannot stay together in two


@pytest.mark.parametrize("kind", ["llama", "cohere"])  # one with a plain head, one without
def test_predictions_come_example_after_example_and_split_by_example(kind: str) -> None:
    model = adapted(kind)
    batch = [example(PROMPT, [12, 40]), example(OTHER, [30, END]), example(PROMPT, [50])]
    with torch.no_grad():
        together = predict(model, batch, 0)
        alone = [predict(model, [e], 0) for e in batch]
        first, others = together.split(1)
    assert torch.allclose(together.values, torch.cat([p.values for p in alone]), atol=1e-4)
    assert torch.allclose(first.scores().logps[0, :2], alone[0].scores().logps[0], atol=1e-4)
    assert others.scores().scored.int().tolist() == [[1, 1], [1, 0]]
    assert torch.allclose(others.scores().logps[1, :1], alone[2].scores().logps[0], atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "cohere"])
def test_the_kl_of_predictions_is_that_of_the_models_own_logits(kind: str) -> None:
    model = adapted(kind)
    with torch.no_grad():
        now = predict(model, [WINS[0]], 0)
        with model.disable_adapter():
            base = predict(model, [WINS[0]], 0).as_base()
            was = obvious_distribution(model, WINS[0])
        kl, same = now.kl_from(base)
        is_now = obvious_distribution(model, WINS[0])
    expected = (was.exp() * (was - is_now)).sum(-1)
    assert expected.max() > 1e-3
    assert torch.allclose(kl, expected, atol=1e-4)
    assert torch.equal(same, was.argmax(-1) == is_now.argmax(-1))


def obvious_distribution(model: Any, e: Encoded) -> Tensor:
    logits = model(input_ids=torch.tensor([[*e.prompt_ids, *e.completion_ids]])).logits[0]
    return logits[len(e.prompt_ids) - 1 : -1].log_softmax(-1)


def test_rows_of_scores_are_those_of_each_completion_alone() -> None:
    model = adapted("llama")
    batch = [*WINS, *LOSES, example(OTHER, [30] * 70)]
    rows = score_rows(model, batch, 0, micro_batch=3)
    for e, row in zip(batch, rows, strict=True):
        now = obvious_distribution(model, e)
        logps = now.gather(-1, torch.tensor(e.completion_ids).unsqueeze(-1)).squeeze(-1)
        assert row.mean_logp == pytest.approx(logps.mean().item(), abs=1e-4)
        assert row.masked_logp == pytest.approx(logps[torch.tensor(e.mask)].sum().item(), abs=1e-3)
        greedy = bool((now.argmax(-1) == torch.tensor(e.completion_ids)).all())
        assert row.learned == (logps.mean().item() >= -0.1 if len(logps) > 64 else greedy)


# -- the head --------------------------------------------------------------------------------------------------


def frozen_head(bias: bool = False) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return nn.Linear(8, V, bias=bias).requires_grad_(False)


@pytest.fixture
def states() -> Tensor:
    return torch.randn(13, 8, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("tokens_a_chunk", [1, 4, 100])
def test_the_chunked_head_is_log_softmax_and_its_gradient(
    bias: bool, tokens_a_chunk: int, states: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_module, "CHUNK_BYTES", 4 * V * tokens_a_chunk)
    head, targets, pull = frozen_head(bias), torch.arange(13) % V, torch.linspace(-1, 1, 13)
    ours, theirs = states.clone().requires_grad_(), states.clone().requires_grad_()
    logps, hits = target_logps(ours, head, targets)
    logits = head(theirs)
    expected = logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    assert torch.allclose(logps, expected, atol=1e-6)
    assert torch.equal(hits, logits.argmax(-1) == targets)
    (logps * pull).sum().backward()
    (expected * pull).sum().backward()
    assert ours.grad is not None and theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)


def test_the_chunked_kl_is_the_kl_and_its_gradient(states: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "CHUNK_BYTES", 4 * V * 6)
    head, base = frozen_head(), states.flip(0)
    ours, theirs = states.clone().requires_grad_(), states.clone().requires_grad_()
    kl, same = kl_from_base(ours, base, head)
    was, now = head(base).log_softmax(-1), head(theirs).log_softmax(-1)
    expected = (was.exp() * (was - now)).sum(-1)
    assert torch.allclose(kl, expected, atol=1e-6)
    assert torch.equal(same, was.argmax(-1) == now.argmax(-1))
    kl.square().sum().backward()
    expected.square().sum().backward()
    assert ours.grad is not None and theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)


def test_no_more_than_one_chunk_of_logits_exists(states: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "CHUNK_BYTES", 4 * V * 4)
    made: list[int] = []
    linear = head_module.F.linear

    def watched(hidden: Tensor, *rest: Any) -> Tensor:
        made.append(hidden.shape[0])
        return linear(hidden, *rest)

    monkeypatch.setattr(head_module.F, "linear", watched)
    logps, _ = target_logps(states.clone().requires_grad_(), frozen_head(), torch.zeros(13, dtype=torch.long))
    assert made == [4, 4, 4, 1]
    kept = [t for t in logps.grad_fn.saved_tensors if t.shape[-1] == V]  # type: ignore[union-attr]
    assert not kept  # and none waits for the backward pass


def test_a_head_that_is_to_be_trained_is_refused(states: Tensor) -> None:
    with pytest.raises(ValueError, match="to be trained"):
        target_logps(states, frozen_head().requires_grad_(True), torch.zeros(13, dtype=torch.long))


# -- checkpointing ---------------------------------------------------------------------------------------------


def test_checkpointing_gives_the_same_gradients_and_leaves_no_trace() -> None:
    model = adapted("llama")
    plain = gradients(model, sum(fast_losses(model, WINS, LOSES, 0.0), torch.zeros(())))
    calls: list[int] = []
    hook = model.get_base_model().model.layers[0].self_attn.register_forward_pre_hook(lambda *_: calls.append(1))
    with checkpointed(model):
        again = gradients(model, sum(fast_losses(model, WINS, LOSES, 0.0), torch.zeros(())))
        assert not model.get_base_model().model.layers[0].mlp.training
    hook.remove()
    assert len(calls) == 2  # forward, and once more in the backward pass
    assert all(torch.allclose(again[n], g, atol=1e-7) for n, g in plain.items())
    assert not any(m.training for m in model.modules())
    assert not any(getattr(m, "gradient_checkpointing", False) for m in model.modules())


@pytest.mark.parametrize("kind", sorted(PACKS & PLAIN))
def test_a_beginning_that_all_prompts_share_is_computed_once_a_row_and_changes_no_loss(kind: str) -> None:
    model, common = adapted(kind), [7, 9, 11, 13, 15, 17, 19, 21, 23, 25]
    wins = [example([*common, 3 + i, 5 + i], [8 + i, END]) for i in range(5)]
    wins.append(example([*common, 3, 5], [40, 41, END]))  # a sibling of the first
    packed = pack(wins, 0, wide_row_tokens=40)
    assert packed.ids.numel() < sum(len(e.prompt_ids) + len(e.completion_ids) for e in wins)
    assert common_beginning([e.prompt_ids for e in wins]) == 10
    assert_same_step(model, wins[:3], wins[3:], 0.0)


def test_tokens_see_the_common_beginning_and_their_own_prompt_and_no_other() -> None:
    common = tuple(range(2, 12))
    packed = pack([example([*common, 30], [31]), example([*common, 40], [41])], 0, wide_row_tokens=64)
    assert packed.ids.tolist() == [[*common, 30, 31, 40, 41]]
    seen = packed.may_see()[0]
    assert seen[13].tolist() == [True] * 10 + [False, False, True, True]
    assert seen[10].tolist() == [True] * 11 + [False] * 3
    assert packed.positions[0].tolist() == [*range(10), 10, 11, 10, 11]
