"""How a round learns: one frozen configuration, checked once, and the named presets. No I/O."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from spear_core.errors import ConfigError
from spear_core.setting_fields import Zero, check_settings

# name -> share of the decoder layers, counted from the top
LORA_LAYERS = {"all": 1.0, "upper_half": 1 / 2, "upper_third": 1 / 3}

Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class SpearConfig:
    """Settings of one learning round. Defaults are the `live` preset; docs/LEARNING.md says how they were chosen.

    Raises ConfigError for a value out of range.
    """

    # LoRA on all linear maps of these decoder layers; of the others nothing changes, and what they compute is kept.
    lora_layers: Annotated[
        Literal["all", "upper_half", "upper_third"],
        "decoder layers that get LoRA, on all their linear maps: `all`, `upper_half` or `upper_third`; what lies "
        "below the first one is computed once a text",
    ] = "all"
    lora_rank: Annotated[AtLeastOne, "rank of the adapter's matrices"] = 8
    lora_alpha: Annotated[AtLeastOne, "scale of the adapter: alpha / rank"] = 16
    lora_dropout: Annotated[ShareBelowOne, "dropout on the adapter's input"] = 0.0
    # What the adapter answers: everything, or what is near to a taught question; the base model answers the rest.
    scope: Annotated[
        Literal["always", "near"],
        "what the adapter answers: everything, or only what is near to a taught question; the untouched model "
        "answers the rest",
    ] = "always"
    scope_similarity: Annotated[
        float,
        Field(ge=-1, le=1),
        "how similar a question must be to a taught one to be near: cosine of whitened features",
    ] = 0.32
    scope_odds: Annotated[
        float,
        Field(ge=-100, le=100),
        "where the model has a scope classifier: log-odds from which on a near question asks for the same thing as a "
        "taught one; less finds more other wordings and lets more neighbour questions through",
    ] = 0.0
    scope_gain: Annotated[
        float,
        Field(ge=-100, le=100),
        "where it has none: nats by which the taught question and answer must make the content words of a near question likelier, on "
        "average; less lets more neighbour questions through",
    ] = 1.6
    memory: Annotated[
        bool,
        "whether a confirmed answer is given at once, before it is trained, whether other wordings of a taught question "
        "are asked of the adapter in the taught words, and whether a question that stands alone is taught and asked without "
        "what was said before it",
    ] = False
    # Optimiser: AdamW without weight decay.
    learning_rate: Annotated[OpenShare, "learning rate of AdamW, without weight decay"] = 1e-3
    adam_beta2: Annotated[OpenShare, "second decay rate of AdamW"] = 0.999
    max_grad_norm: Annotated[Positive, "gradients are clipped to this norm"] = 1.0
    # Loss (arXiv 2605.07977: L = lambda_win * L_win + lambda_lose * L_lose, plus anchor_weight * KL(base || adapter)).
    lambda_win: Annotated[NotNegative, "weight of the likelihood of right answers"] = 1.0
    lambda_lose: Annotated[NotNegative, "weight of the unlikelihood of rejected answers"] = 0.0
    margin: Annotated[ShareBelowOne, "probability of a rejected token below which it is not pushed down further"] = 0.3
    tail_tokens: Annotated[Count, "last tokens of a rejected answer that are pushed down", Zero("all tokens")] = 0
    lose_mask: Annotated[
        Literal["tail", "distinguishing"],
        "which rejected tokens: the `tail`, or only those that tell the rejected from the right answer",
    ] = "distinguishing"
    confidence_form: Annotated[
        Literal["per_trace", "batch_mean"],
        "how a trace's confidence weighs its loss",
    ] = "per_trace"
    max_lose_ratio: Annotated[NotNegative, "most rejected answers in a round, per right one"] = 2.0
    num_revisions: Annotated[int, Field(ge=1, le=10), "revisions of one reply"] = 2
    # Steps.
    max_steps: Annotated[AtLeastOne, "steps of a round at most; where it does not stop when learned, exactly"] = 80
    judged_steps: Annotated[AtLeastOne, "steps of a round without any answer confirmed by a person"] = 8
    stop_when_learned: Annotated[bool, "stop once the greedy answer is the confirmed one"] = True
    check_every: Annotated[AtLeastOne, "steps between two such checks"] = 2
    settle_steps: Annotated[Count, "further steps once everything is learned"] = 6
    settle_drift: Annotated[
        NotNegative,
        "drift of the last step's anchors at which training may stop, nats a token",
    ] = 0.02
    prompt_dropout: Annotated[ShareBelowOne, "share of the question's tokens left out at random in each step"] = 0.2
    wordings: Annotated[
        Count,
        "other wordings of each confirmed question that are trained on: words left out, an opening before it, its "
        "content words in another order",
    ] = 0  # training/wordings.py
    wordings_a_step: Annotated[Count, "of them, for each new right answer"] = 2
    # Consolidation: all corrections together in mini-batches, in the background; each round practises its own first.
    consolidate_every: Annotated[
        Count,
        "rounds after which all corrections are practised together in the background",
        Zero("never"),
    ] = 0
    consolidation_steps: Annotated[AtLeastOne, "steps of such a practice"] = 12
    # Batches.
    wins_a_step: Annotated[AtLeastOne, "right answers in a step"] = 16
    loses_a_step: Annotated[AtLeastOne, "rejected answers in a step"] = 16
    replay_wins: Annotated[Count, "earlier right answers in a step"] = 8
    anchors_a_step: Annotated[Count, "answers held to the base model in a step"] = 8
    anchor_pool: Annotated[Count, "answers that these are drawn from"] = 512
    anchor_drift_share: Annotated[Share, "share of a step's anchors taken from those that drifted most"] = 0.5
    anchor_dropout: Annotated[ShareBelowOne, "share of an anchor's question left out at random in each step"] = 0.0
    anchor_weight: Annotated[NotNegative, "weight of the KL to the base model on anchors"] = 3.0
    anchor_tokens: Annotated[Count, "tokens of an anchor's answer that are held", Zero("all")] = 0
    # Neighbours (spear_core/training/neighbours.py): questions like the corrected one about something else, held to the base model's
    # own answer and to the improbability that the taught answer had there.
    neighbours: Annotated[
        Count,
        "questions like a corrected one about something else, made by the base model",
        Zero("none"),
    ] = 0
    neighbour_probes: Annotated[Count, "of them, those that only the gate sees"] = 4
    neighbour_tokens: Annotated[AtLeastOne, "tokens of the base model's answer to a neighbour that are held"] = 8
    neighbours_a_step: Annotated[Count, "neighbours of the round's corrections in a step"] = 4
    earlier_neighbours_a_step: Annotated[Count, "neighbours of earlier corrections in a step"] = 3
    neighbour_weight: Annotated[NotNegative, "weight of the KL along the base model's own answer to a neighbour"] = 3.0
    taught_weight: Annotated[NotNegative, "weight of the KL along the taught answer forced upon a neighbour"] = 1.0
    micro_batch: Annotated[
        AtLeastOne,
        "rows in one forward pass",
    ] = 24  # a correction, eight older ones and eight anchors go in one
    gradient_checkpointing: Annotated[
        bool,
        "compute activations twice instead of keeping them: slower, less memory",
    ] = False
    # Gate.
    gate_enabled: Annotated[bool, "measure before an adapter goes live, and refuse one that forgot something"] = True
    gate_min_learned: Annotated[
        Share,
        "share of the new right answers that must be given when asked again, greedily",
    ] = 0.5
    gate_max_forgotten: Annotated[Share, "share of the earlier right answers that may be lost"] = 0.1
    gate_max_older_nll_rise: Annotated[NotNegative, "rise of their negative log-likelihood, nats a token, mean"] = 0.5
    gate_max_probe_kl: Annotated[
        NotNegative,
        "drift from the base model on the probes, nats a token, mean",
    ] = 0.03  # at 0.04 a tenth of what it knew can be gone
    gate_max_worst_probe_kl: Annotated[NotNegative, "the same on the tenth of the probes that moved most"] = 0.3
    gate_max_leaks: Annotated[Share, "share of similar questions that may get the taught answer"] = 0.25
    gate_max_changed: Annotated[
        Share,
        "share of the answers to starter probes that may differ from the base model's, and of recent replies that "
        "one round may change",
    ] = 0.3
    gate_max_changed_of_a_kind: Annotated[Share, "the same within one kind of question"] = 0.5
    recent_probes: Annotated[
        Count,
        "recent replies without an objection that the gate asks again; a quarter of all questions is kept out of "
        "training for it",
    ] = 0
    repair_steps: Annotated[
        Count,
        "further steps on what the gate refuses for what moved elsewhere, or for earlier corrections that were lost",
        Zero("trained again instead"),
    ] = 0
    # Judge of unconfirmed revisions, until this model has verdicts of its own to be calibrated on. From the pocket model
    # (benchmarks/judge.py); an infinite judge_tau accepts nothing.
    judge_tau: Annotated[
        float,
        "gain from which the judge accepts an unjudged revision, nats a token; `inf`: never",
    ] = 0.01
    judge_tau_full: Annotated[Positive, "gain from which such a revision counts half of a person's word"] = 1.25
    judge_min_p: Annotated[Share, "probability of the revision, given the hints, that the judge asks for"] = 0.7
    verdict_grace_seconds: Annotated[NotNegative, "seconds a person has for a verdict before the judge decides"] = 120.0
    # Texts.
    max_new_tokens: Annotated[
        int,
        Field(ge=1, le=8192),
        "longest reply, in tokens; a model's `spear.json` may allow fewer (the pocket model: 64)",
    ] = 512

    def __post_init__(self) -> None:
        check_settings(self, "spear.")

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
        scope_odds=-1.5,
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
