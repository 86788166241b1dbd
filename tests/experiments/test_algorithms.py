"""The losses against numbers worked out by hand, and against TRL's where it is installed."""

from __future__ import annotations

import contextlib
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import tensor

from experiments.algorithms import ALGORITHMS
from experiments.algorithms.dpo import dpo_loss
from experiments.algorithms.groups import group_advantages, kl_estimate
from experiments.algorithms.grpo import grpo_loss
from experiments.algorithms.kto import kto_loss, mismatched_pairs
from experiments.algorithms.opsd import distillation_loss
from experiments.algorithms.rltf_sd import rltf_loss, turn_weights
from spear_core.errors import ConfigError
from spear_core.training.packing import pack
from spear_core.training.scoring import Predictions
from spear_core.training.traces import Encoded


def test_dpo_by_hand() -> None:
    # margins over the base: chosen +1, rejected -1; beta 0.1 -> -log sigmoid(0.2) = 0.598139
    assert dpo_loss(tensor([-2.0]), tensor([-4.0]), tensor([-3.0]), tensor([-3.0]), 0.1).item() == pytest.approx(
        0.598139, abs=1e-6
    )


def test_kto_by_hand() -> None:
    # r = 1, z = 0.5, beta 2: accepted 1 - sigmoid(1) = 0.268941; refused 1 - sigmoid(-1) = 0.731059; mean 0.5
    values = kto_loss(tensor([1.0, 1.0]), tensor([True, False]), tensor(0.5), 2.0)
    assert values.item() == pytest.approx(0.5)
    assert kto_loss(tensor([1.0]), tensor([True]), tensor(0.5), 2.0).item() == pytest.approx(0.268941, abs=1e-6)


def test_a_mismatched_reply_is_one_to_another_prompt() -> None:
    # an episode that was revised leaves two replies to one prompt, side by side
    replies = [Encoded((p,), (c,), (True,)) for p, c in ((1, 10), (1, 11), (2, 20), (3, 30), (3, 31))]
    found = [(pair.prompt_ids[0], pair.completion_ids[0]) for pair in mismatched_pairs(replies)]
    assert found == [(1, 20), (1, 20), (2, 30), (3, 10), (3, 10)]
    assert [pair.completion_ids[0] for pair in mismatched_pairs(replies[:2])] == [10, 11], "there is no other prompt"


def test_group_advantages_by_hand() -> None:
    # rewards 1 0 0 0: mean 1/4, unbiased std 1/2 -> 1.5 and -0.5; a group of equals says nothing
    found = group_advantages(tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]))
    assert found[0].tolist() == pytest.approx([1.4997, -0.4999, -0.4999, -0.4999], abs=1e-4)
    assert found[1].abs().max() == 0


def test_grpo_takes_the_minimum_for_either_sign_of_the_advantage() -> None:
    half, one = math.log(0.5), torch.ones(1, 1)

    def value(ratio: float, advantage: float) -> float:
        old = tensor([[half]])
        new = old + math.log(ratio)
        return grpo_loss(new, old, new, tensor([advantage]), one, clip=0.2, kl=0.0).item()

    assert value(1.5, 1.0) == pytest.approx(-1.2)  # a gain is cut off
    assert value(1.5, -1.0) == pytest.approx(1.5)  # a loss is not
    assert value(0.5, -1.0) == pytest.approx(0.8)


def test_the_kl_estimate_is_zero_for_equal_models_and_positive_otherwise() -> None:
    assert kl_estimate(tensor([-1.0]), tensor([-1.0])).item() == 0
    # ref - lp = log 2: 2 - log 2 - 1 = 0.306853
    assert kl_estimate(tensor([math.log(0.25)]), tensor([math.log(0.5)])).item() == pytest.approx(0.306853, abs=1e-6)


def test_rltf_weights_and_loss_by_hand() -> None:
    # two episodes of one prompt: r0 = 0, 1; r1 = 1, 1; gamma 1 -> R0 = 1, 2, mean 1.5; A_sd = 1 - 0.5
    distil, first, second = turn_weights(tensor([[0.0, 1.0]]), tensor([[1.0, 1.0]]), 1.0, 0.1, 1.0)
    assert distil[0].tolist() == pytest.approx([0.05, 0.05])
    assert first[0].tolist() == [-0.5, 0.5]
    assert second[0].tolist() == [0.0, 0.0]
    logps = tensor([[-1.0, -3.0]])
    assert rltf_loss(logps, logps, tensor([0.5]), torch.ones(1, 2), 0.02).item() == pytest.approx(1.0)  # 0.5 * mean 2


def test_distillation_at_a_temperature_by_hand() -> None:
    example = Encoded((1,), (2,), (True,))
    packed = pack([example], 0)

    def predictions(logits: list[float]) -> Predictions:
        return Predictions(packed, tensor([logits]), None, (1, 1))

    # teacher log-odds 2 log 3 at T = 2 -> p = 3/4; student 1/2: KL = 3/4 log 3/2 + 1/4 log 1/2 = 0.130812
    found = distillation_loss(predictions([2 * math.log(3), 0.0]), predictions([0.0, 0.0]), 2.0)
    assert found.item() == pytest.approx(0.130812, abs=1e-6)


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="algorithm.betta of dpo; there are: beta"):
        ALGORITHMS["dpo"]({"betta": 1})


# -- TRL -----------------------------------------------------------------------------------------------------


class _Table(torch.nn.Module):
    """A stand-in for a model: it looks the log-probabilities up, so that only the loss is compared."""

    def __init__(self, tables: list[torch.Tensor]) -> None:
        super().__init__()
        self.tables = tables
        self.eval()

    def forward(self, **inputs: Any) -> Any:
        table = self.tables.pop(0)
        zeros = torch.zeros_like(table)  # all that is only logged
        return SimpleNamespace(log_probs=table, entropy=zeros, aux_loss=None, mean_logits=zeros, is_top1=zeros.bool())


def _trl(name: str) -> Any:
    return getattr(pytest.importorskip("trl", reason="TRL is not installed here; the hand-worked numbers stand"), name)


def _bare(trainer: Any, **attributes: Any) -> Any:
    """A trainer without its constructor: what its loss reads; whatever only its logs read is 1."""
    made = object.__new__(type("Bare", (trainer,), {"__getattr__": lambda self, name: 1}))
    accelerator = SimpleNamespace(
        device=torch.device("cpu"), gather_for_metrics=lambda x: x, gather=lambda x: x, num_processes=1,
        reduce=lambda x, **_: x,
        unwrap_model=lambda m: m,
    )  # fmt: skip
    metrics: Any = {mode: _Sink() for mode in ("train", "eval")}
    everything = {"accelerator": accelerator, "_metrics": metrics, "aux_loss_enabled": False, **attributes}
    for key, value in everything.items():
        object.__setattr__(made, key, value)
    return made


class _Sink(dict):  # type: ignore[type-arg]
    def __missing__(self, key: str) -> list[float]:
        return self.setdefault(key, [])


def test_grpo_is_trls_grpo() -> None:
    trainer = _trl("GRPOTrainer")
    torch.manual_seed(0)
    logps, old, base = (-torch.rand(4, 5) for _ in range(3))
    mask = tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    advantages = tensor([1.5, -0.5, -0.5, -0.5])
    made = _bare(
        trainer, top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level="token",
        beta=0.02, loss_type="grpo", epsilon_low=0.2, epsilon_high=0.2, use_vllm=False, _entropy_bonus_enabled=False,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None), model=SimpleNamespace(training=False),
        current_gradient_accumulation_steps=1, entropy_coef=0.0,
    )  # fmt: skip
    object.__setattr__(
        made, "_get_per_token_logps_and_entropies", lambda *a, **k: (logps, torch.zeros_like(logps), None)
    )
    inputs = {
        "prompt_ids": torch.zeros(4, 2, dtype=torch.long), "prompt_mask": torch.ones(4, 2, dtype=torch.long),
        "completion_ids": torch.zeros(4, 5, dtype=torch.long), "completion_mask": mask,
        "advantages": advantages, "old_per_token_logps": old, "ref_per_token_logps": base,
    }  # fmt: skip
    theirs = trainer._compute_loss(made, made.model, inputs)
    ours = grpo_loss(logps, old, base, advantages, mask.float(), clip=0.2, kl=0.02)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)


def _token_table(*sums: float) -> torch.Tensor:
    """Log-probabilities of three tokens each, that add up to the given sums."""
    return torch.stack([torch.full((3,), s / 3) for s in sums])


def test_dpo_is_trls_dpo(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = _trl("DPOTrainer")
    chosen, rejected, base_chosen, base_rejected = ([-2.0, -1.0], [-4.0, -5.0], [-3.0, -1.5], [-3.0, -6.0])
    model = _Table([_token_table(*chosen, *rejected)])
    reference = _Table([_token_table(*base_chosen, *base_rejected)])
    made = _bare(
        trainer, ld_alpha=None, precompute_ref_logps=False, ref_model=reference, model=model, beta=0.1,
        f_divergence_type="reverse_kl", loss_types=["sigmoid"], loss_weights=[1.0], label_smoothing=0.0,
        use_weighting=False, args=SimpleNamespace(gradient_checkpointing_kwargs=None), _total_train_tokens=0,
    )  # fmt: skip
    monkeypatch.setattr(
        f"{trainer.__module__}.disable_gradient_checkpointing", lambda *a, **k: contextlib.nullcontext()
    )
    ones = torch.ones(4, 4, dtype=torch.long)
    inputs = {"input_ids": ones, "attention_mask": ones, "completion_mask": ones}
    theirs = trainer._compute_loss(made, model, inputs, False)
    ours = dpo_loss(tensor(chosen), tensor(rejected), tensor(base_chosen), tensor(base_rejected), 0.1)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)


def test_kto_is_trls_kto(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = _trl("KTOTrainer")
    logps, base = [-2.0, -4.0, -3.0], [-3.0, -3.5, -1.0]
    now, before = [-5.0, -5.0, -4.0], [-6.0, -7.0, -5.0]  # of mismatched pairs: z = mean(1, 2, 1)
    model = _Table([_token_table(*now), _token_table(*logps)])
    reference = _Table([_token_table(*before), _token_table(*base)])
    made = _bare(
        trainer, calculate_KL=True, precompute_ref_logps=False, ref_model=reference, model=model, beta=0.1,
        loss_type="kto", desirable_weight=1.0, undesirable_weight=1.0, _total_train_tokens=0,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
    )  # fmt: skip
    monkeypatch.setattr(
        f"{trainer.__module__}.disable_gradient_checkpointing", lambda *a, **k: contextlib.nullcontext()
    )
    ones = torch.ones(3, 4, dtype=torch.long)
    accepted = tensor([True, False, True])
    inputs = {
        "input_ids": ones, "attention_mask": ones, "completion_mask": ones, "label": accepted,
        "KL_input_ids": ones, "KL_attention_mask": ones, "KL_completion_mask": ones,
    }  # fmt: skip
    theirs = trainer._compute_loss(made, model, inputs, False)
    ours = kto_loss(tensor(logps) - tensor(base), accepted, tensor(4 / 3), 0.1)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
