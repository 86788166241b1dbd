"""The gate: may this adapter go live? Measures before and after a round, and says the verdict in plain words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from spear_core.config import SpearConfig
from spear_core.training.packing import batches_by_prompt
from spear_core.training.scoring import predict, score_rows
from spear_core.training.traces import Encoded
from spear_core.training.trainer import SMALL_P, Anchors

MERGE_ROOM = 0.5  # share of the budgets for drift that a merge may use up
LOOP_SHARE = 0.2  # fewer distinct words than this share of a long reply: it goes round in circles


@dataclass(frozen=True)
class Measures:
    """What the gate compares. Log-probabilities are means per token, in nats."""

    win_logp: float
    rejected_p: float  # probability of all the tokens together that made a losing answer wrong, mean over the answers
    learned: tuple[bool, ...]  # newly confirmed wins whose greedy re-ask gives the confirmed answer
    held: tuple[bool, ...]  # older confirmed wins, likewise
    older_nll: float
    probe_kl: float  # KL(base || adapter) on the probes
    worst_probe_kl: float  # the same on the tenth of the probes that moved most: damage in a corner shows here
    probe_changed: float  # share of probe tokens where the greedy choice is another than the base's
    finite: bool

    def figures(self) -> dict[str, float]:
        return {
            "win_logp": round(self.win_logp, 4),
            "rejected_p": round(self.rejected_p, 4),
            "learned": sum(self.learned),
            "confirmed": len(self.learned),
            "older_held": sum(self.held),
            "older": len(self.held),
            "older_nll": round(self.older_nll, 4),
            "probe_kl": round(self.probe_kl, 5),
            "worst_probe_kl": round(self.worst_probe_kl, 5),
            "probe_changed": round(self.probe_changed, 4),
        }


@dataclass(frozen=True)
class Verdict:
    passed: bool
    words: str
    is_drift: bool = False  # refused only for what moved that nobody complained about


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


@torch.no_grad()
def measure(
    model: Any,
    wins: Sequence[Encoded],
    loses: Sequence[Encoded],
    older: Sequence[Encoded],
    probes: Anchors,
    pad_id: int,
    micro_batch: int,
    priority: Callable[[], None] = lambda: None,
) -> Measures:
    """Everything the gate needs to know of one adapter, by teacher forcing. `pace` is called before each forward."""
    masked = [e for e in loses if any(e.mask)]
    rows = score_rows(model, [*wins, *masked, *older], pad_id, micro_batch, priority)
    of_wins, of_loses = rows[: len(wins)], rows[len(wins) : len(wins) + len(masked)]
    of_older = rows[len(wins) + len(masked) :]
    kl, changed, tokens = 0.0, 0, 0
    each: list[float] = []
    for part in batches_by_prompt(probes.examples, micro_batch):
        priority()
        examples = [probes.examples[i] for i in part]
        predictions = predict(model, examples, pad_id, every_token=True)
        values, same = predictions.kl_from(probes.base(model, examples, pad_id))
        of_probe = predictions.packed.unflatten(values, predictions.shape).sum(-1).tolist()
        each += [total / len(e.completion_ids) for total, e in zip(of_probe, examples, strict=True)]
        kl += sum(of_probe)
        changed += int((~same).sum())
        tokens += len(values)
    finite = all(bool(torch.isfinite(p).all()) for n, p in model.named_parameters() if "lora_" in n)
    return Measures(
        win_logp=_mean([row.mean_logp for row in of_wins]),
        rejected_p=_mean([math.exp(row.masked_logp) for row in of_loses]),
        learned=tuple(row.learned for row, e in zip(of_wins, wins, strict=True) if e.confirmed),
        held=tuple(row.learned for row in of_older),
        older_nll=_mean([-row.mean_logp for row in of_older]),
        probe_kl=kl / max(tokens, 1),
        worst_probe_kl=_mean(sorted(each, reverse=True)[: -(-len(each) // 10)]),
        probe_changed=changed / max(tokens, 1),
        finite=finite,
    )


def is_degenerate(reply: str) -> bool:
    """Empty, or a loop: a long reply with hardly any distinct words."""
    words = reply.split()
    return not words or (len(words) >= 20 and len(set(words)) / len(words) < LOOP_SHARE)


def decide(before: Measures, after: Measures, replies: Sequence[str], config: SpearConfig, gained: str = "") -> Verdict:
    """DESIGN's gate: (a) the new traces moved the right way, (b) what was learned and known holds, (c) sanity.

    `gained` says what a merge brings, which has no new traces. It may move what nobody complained about half as far:
    no person here asked for it.
    """
    room = MERGE_ROOM if gained else 1.0
    share = f"{100 * after.probe_changed:.1f} %"
    if not after.finite or not math.isfinite(after.win_logp) or not math.isfinite(after.probe_kl):
        return Verdict(False, "Not kept: the training broke the adapter's numbers.")
    if any(is_degenerate(r) for r in replies):
        return Verdict(False, "Not kept: its replies came out empty or went round in circles.")
    if not config.gate_enabled:
        return Verdict(True, "Kept without a check: the gate is switched off.")
    if after.win_logp <= before.win_logp and not all(after.learned):
        return Verdict(False, "Not kept: the right answer did not become more likely.")
    if after.rejected_p > before.rejected_p and after.rejected_p > SMALL_P:
        return Verdict(False, "Not kept: the rejected answer became more likely.")
    if after.learned and sum(after.learned) < config.gate_min_learned * len(after.learned):
        return Verdict(
            False,
            f"Not kept: asked again, it still got {len(after.learned) - sum(after.learned)} of {len(after.learned)} corrections wrong.",
        )
    lost = sum(was and not still for was, still in zip(before.held, after.held, strict=True))
    if lost > max(1, config.gate_max_forgotten * sum(before.held)):
        return Verdict(
            False, f"Not kept: it would have forgotten {lost} of your {sum(before.held)} earlier confirmations."
        )
    if after.older_nll > before.older_nll + config.gate_max_older_nll_rise:
        return Verdict(False, "Not kept: your earlier confirmations would have become much less certain.")
    # nearer than before is no drift: a standing wish moves what the probes are held to
    if after.probe_kl > max(room * config.gate_max_probe_kl, before.probe_kl):
        return Verdict(
            False,
            f"Not kept: it would have changed answers nobody complained about ({share} of their words).",
            is_drift=True,
        )
    if after.worst_probe_kl > max(room * config.gate_max_worst_probe_kl, before.worst_probe_kl):
        return Verdict(
            False,
            "Not kept: a few answers that nobody complained about would have come out quite different.",
            is_drift=True,
        )
    if gained:
        learned = gained
    elif len(after.learned) == sum(after.learned) == 1:
        learned = "your correction is learned"
    elif after.learned:
        learned = f"{sum(after.learned)} of {len(after.learned)} corrections are learned"
    else:
        learned = "the better answer became more likely"
    return Verdict(True, f"Kept: {learned}; older answers unchanged ({share}).")
