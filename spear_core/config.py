"""How a round learns: one frozen configuration, checked once, and the named presets. No I/O."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from typing import Any, Literal, Self

from spear_core.errors import ConfigError

# name -> share of the decoder layers, counted from the top
LORA_LAYERS = {"all": 1.0, "upper_half": 1 / 2, "upper_third": 1 / 3}


@dataclass(frozen=True)
class SpearConfig:
    """Settings of one learning round. Defaults are the `live` preset; docs/LEARNING.md says how they were chosen.

    Raises ConfigError for a value out of range.
    """

    # LoRA on all linear maps of these decoder layers; of the others nothing changes, and what they compute is kept.
    lora_layers: Literal["all", "upper_half", "upper_third"] = "all"
    lora_rank: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.0
    # What the adapter answers: everything, or what is near to a taught question; the base model answers the rest.
    scope: Literal["always", "near"] = "always"
    scope_similarity: float = 0.32  # cosine of whitened features (spear_core/inference/scope.py) that counts as near
    scope_odds: float = (
        0.0  # log-odds of the scope classifier, where the model has one, from which on two questions are one
    )
    scope_gain: float = 1.6  # nats by which the taught question and answer must make a near question's words likelier
    # Whether a correction answers at once, before it is trained, and other wordings of its question are asked in its own.
    memory: bool = False
    # Optimiser: AdamW without weight decay.
    learning_rate: float = 1e-3
    adam_beta2: float = 0.999
    max_grad_norm: float = 1.0
    # Loss (arXiv 2605.07977: L = lambda_win * L_win + lambda_lose * L_lose, plus anchor_weight * KL(base || adapter)).
    lambda_win: float = 1.0
    lambda_lose: float = 0.0
    margin: float = 0.3
    tail_tokens: int = 0  # 0: all completion tokens
    lose_mask: Literal["tail", "distinguishing"] = "distinguishing"
    confidence_form: Literal["per_trace", "batch_mean"] = "per_trace"
    max_lose_ratio: float = 2.0
    num_revisions: int = 2
    # Steps.
    max_steps: int = 80  # of a round that stops when learned; the fixed number of a round that does not
    judged_steps: int = 8  # of a round without any human-confirmed win
    stop_when_learned: bool = True
    check_every: int = 2
    settle_steps: int = 6  # further steps once everything is learned
    settle_drift: float = 0.02  # nats per token that the last step's anchors may be off when training stops
    prompt_dropout: float = 0.2  # share of the question's tokens left out at random in each step
    wordings: int = 0  # other wordings of each confirmed question that are trained on (training/wordings.py)
    wordings_a_step: int = 2  # of them, for each new win; a replayed win comes in one of its wordings
    # Consolidation: all corrections together in mini-batches, in the background; each round practises its own first.
    consolidate_every: int = 0  # rounds between two; 0: never
    consolidation_steps: int = 12
    # Batches.
    wins_a_step: int = 16
    loses_a_step: int = 16
    replay_wins: int = 8
    anchors_a_step: int = 8
    anchor_pool: int = 512
    anchor_drift_share: float = 0.5  # of a step's anchors, those that drifted most when last seen; the rest in turn
    anchor_dropout: float = 0.0  # share of an anchor's question left out at random in each step
    anchor_weight: float = 3.0
    anchor_tokens: int = 0  # of an anchor's answer that are held; 0: all. A changed answer shows in its first words
    # Neighbours (spear_core/neighbours.py): questions like the corrected one about something else, held to the base model's
    # own answer and to the improbability that the taught answer had there.
    neighbours: int = 0  # made for each correction, the gate's among them; 0: none
    neighbour_probes: int = 4  # of them that only the gate sees
    neighbour_tokens: int = 8  # of the base model's answer to a neighbour that are held
    neighbours_a_step: int = 4  # of the corrections of the round
    earlier_neighbours_a_step: int = 3  # of earlier corrections
    neighbour_weight: float = 3.0  # of the base model's own answer
    taught_weight: float = 1.0  # of the taught answer forced upon the neighbour
    micro_batch: int = 24  # rows in one forward: a correction, eight older ones and eight anchors go in one
    gradient_checkpointing: bool = False  # compute activations twice instead of keeping them: slower, less memory
    # Gate.
    gate_enabled: bool = True
    gate_min_learned: float = 0.5  # of the newly confirmed wins, re-asked greedily
    gate_max_forgotten: float = 0.1  # of the older confirmed wins that held before the round
    gate_max_older_nll_rise: float = 0.5  # nats per token, mean over the older confirmed wins
    gate_max_probe_kl: float = (
        0.03  # nats per token, against the base model; at 0.04 a tenth of what it knew can be gone
    )
    gate_max_worst_probe_kl: float = 0.3  # the same on the tenth of the probes that moved most
    gate_max_leaks: float = 0.25  # of the neighbours that only the gate sees: those that get the taught answer
    gate_max_changed: float = (
        0.3  # of the answers to starter probes, against the base model; of recent ones, by one round
    )
    gate_max_changed_of_a_kind: float = 0.5
    recent_probes: int = 0  # recent replies that nobody objected to, asked again by the gate and never trained on
    repair_steps: int = 0  # further steps on what the gate refuses for what moved elsewhere; 0: trained again instead
    # Judge of unconfirmed revisions, until this model has verdicts of its own to be calibrated on. From the pocket model
    # (benchmarks/judge.py); an infinite judge_tau accepts nothing.
    judge_tau: float = 0.01  # gain, nats per token
    judge_tau_full: float = 1.25  # gain from which on a judged trace gets its full confidence, nats per token
    judge_min_p: float = 0.7  # probability that the model, given the hints, must give the whole revision
    verdict_grace_seconds: float = 120.0
    # Texts.
    max_new_tokens: int = 512

    def __post_init__(self) -> None:
        rules: list[tuple[str, bool, str]] = [
            ("lora_layers", self.lora_layers in LORA_LAYERS, ", ".join(LORA_LAYERS)),
            ("scope", self.scope in ("always", "near"), "always or near"),
            ("scope_odds", -100 <= self.scope_odds <= 100, "in [-100, 100]"),
            ("scope_gain", -100 <= self.scope_gain <= 100, "in [-100, 100]"),
            ("scope_similarity", -1 <= self.scope_similarity <= 1, "in [-1, 1]"),
            ("lora_rank", self.lora_rank >= 1, "at least 1"),
            ("lora_alpha", self.lora_alpha >= 1, "at least 1"),
            ("lora_dropout", 0 <= self.lora_dropout < 1, "in [0, 1)"),
            ("learning_rate", 0 < self.learning_rate < 1, "in (0, 1)"),
            ("adam_beta2", 0 < self.adam_beta2 < 1, "in (0, 1)"),
            ("max_grad_norm", self.max_grad_norm > 0, "above 0"),
            ("lambda_win", self.lambda_win >= 0, "at least 0"),
            ("lambda_lose", self.lambda_lose >= 0, "at least 0"),
            ("margin", 0 <= self.margin < 1, "in [0, 1)"),
            ("tail_tokens", self.tail_tokens >= 0, "at least 0 (0: all tokens)"),
            ("lose_mask", self.lose_mask in ("tail", "distinguishing"), "tail or distinguishing"),
            ("confidence_form", self.confidence_form in ("per_trace", "batch_mean"), "per_trace or batch_mean"),
            ("max_lose_ratio", self.max_lose_ratio >= 0, "at least 0"),
            ("num_revisions", 1 <= self.num_revisions <= 10, "1 to 10"),
            ("max_steps", self.max_steps >= 1, "at least 1"),
            ("judged_steps", self.judged_steps >= 1, "at least 1"),
            ("check_every", self.check_every >= 1, "at least 1"),
            ("settle_steps", self.settle_steps >= 0, "at least 0"),
            ("settle_drift", self.settle_drift >= 0, "at least 0"),
            ("prompt_dropout", 0 <= self.prompt_dropout < 1, "in [0, 1)"),
            ("wordings", self.wordings >= 0, "at least 0"),
            ("wordings_a_step", self.wordings_a_step >= 0, "at least 0"),
            ("consolidate_every", self.consolidate_every >= 0, "at least 0 (0: never)"),
            ("consolidation_steps", self.consolidation_steps >= 1, "at least 1"),
            ("wins_a_step", self.wins_a_step >= 1, "at least 1"),
            ("loses_a_step", self.loses_a_step >= 1, "at least 1"),
            ("replay_wins", self.replay_wins >= 0, "at least 0"),
            ("anchors_a_step", self.anchors_a_step >= 0, "at least 0"),
            ("anchor_tokens", self.anchor_tokens >= 0, "at least 0 (0: all)"),
            ("neighbours", self.neighbours >= 0, "at least 0 (0: none)"),
            ("neighbour_probes", self.neighbour_probes >= 0, "at least 0"),
            ("neighbour_tokens", self.neighbour_tokens >= 1, "at least 1"),
            ("neighbours_a_step", self.neighbours_a_step >= 0, "at least 0"),
            ("neighbour_weight", self.neighbour_weight >= 0, "at least 0"),
            ("earlier_neighbours_a_step", self.earlier_neighbours_a_step >= 0, "at least 0"),
            ("taught_weight", self.taught_weight >= 0, "at least 0"),
            ("anchor_pool", self.anchor_pool >= 0, "at least 0"),
            ("micro_batch", self.micro_batch >= 1, "at least 1"),
            ("anchor_drift_share", 0 <= self.anchor_drift_share <= 1, "in [0, 1]"),
            ("anchor_dropout", 0 <= self.anchor_dropout < 1, "in [0, 1)"),
            ("anchor_weight", self.anchor_weight >= 0, "at least 0"),
            ("gate_min_learned", 0 <= self.gate_min_learned <= 1, "in [0, 1]"),
            ("gate_max_forgotten", 0 <= self.gate_max_forgotten <= 1, "in [0, 1]"),
            ("gate_max_older_nll_rise", self.gate_max_older_nll_rise >= 0, "at least 0"),
            ("gate_max_probe_kl", self.gate_max_probe_kl >= 0, "at least 0"),
            ("gate_max_worst_probe_kl", self.gate_max_worst_probe_kl >= 0, "at least 0"),
            ("gate_max_leaks", 0 <= self.gate_max_leaks <= 1, "in [0, 1]"),
            ("gate_max_changed", 0 <= self.gate_max_changed <= 1, "in [0, 1]"),
            ("gate_max_changed_of_a_kind", 0 <= self.gate_max_changed_of_a_kind <= 1, "in [0, 1]"),
            ("recent_probes", self.recent_probes >= 0, "at least 0"),
            ("repair_steps", self.repair_steps >= 0, "at least 0 (0: trained again instead)"),
            ("judge_tau", not math.isnan(self.judge_tau), "a number"),
            ("judge_tau_full", self.judge_tau_full > 0, "above 0"),
            ("judge_min_p", 0 <= self.judge_min_p <= 1, "in [0, 1]"),
            ("verdict_grace_seconds", self.verdict_grace_seconds >= 0, "at least 0"),
            ("max_new_tokens", 1 <= self.max_new_tokens <= 8192, "1 to 8192"),
        ]
        for name, holds, allowed in rules:
            if not holds:
                raise ConfigError(f"spear.{name} = {getattr(self, name)!r} is not allowed; it must be {allowed}")

    def replace(self, **changes: Any) -> Self:
        """A copy with some keys changed. Raises ConfigError for an unknown key, with a suggestion."""
        known = [f.name for f in dataclasses.fields(self)]
        for key in changes:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                raise ConfigError(f"unknown key spear.{key}" + (f"; did you mean {close[0]}?" if close else ""))
        return dataclasses.replace(self, **changes)


PRESETS: dict[str, SpearConfig] = {
    # For a person correcting a model one answer at a time.
    "live": SpearConfig(),
    # The same for a general language model of many layers (docs/LEARNING.md): what lies below the adapted third is
    # computed once.
    "general": SpearConfig(
        lora_layers="upper_third",
        scope="near",
        scope_similarity=0.25,
        scope_odds=-1.7,
        memory=True,
        adam_beta2=0.95,
        max_steps=24,
        settle_steps=4,
        settle_drift=0.5,
        prompt_dropout=0.0,
        wordings=8,
        replay_wins=5,
        anchors_a_step=4,
        anchor_tokens=8,
        neighbours=4,  # for the gate; held in training they cost the other wordings (docs/LEARNING.md)
        neighbour_tokens=6,
        neighbours_a_step=0,
        earlier_neighbours_a_step=0,
        neighbour_weight=1.5,
        taught_weight=0.5,
        gate_max_changed=0.15,
        gate_max_changed_of_a_kind=0.34,
        recent_probes=8,
        repair_steps=6,
    ),
    # The authors' published settings (arXiv 2605.07977): fixed steps, unlikelihood, no anchors.
    "paper": SpearConfig(
        lora_rank=16,
        lora_alpha=32,
        lora_dropout=0.1,
        learning_rate=5e-5,
        lambda_lose=0.1,
        margin=0.3,
        lose_mask="tail",
        confidence_form="batch_mean",
        settle_steps=0,
        prompt_dropout=0.0,
        anchor_dropout=0.0,
        max_steps=5,
        stop_when_learned=False,
        replay_wins=0,
        anchors_a_step=0,
        anchor_weight=0.0,
        max_new_tokens=256,
    ),
}


def preset(name: str, **changes: Any) -> SpearConfig:
    """A named preset, with some keys changed. Raises ConfigError for an unknown name or key."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[name].replace(**changes)
