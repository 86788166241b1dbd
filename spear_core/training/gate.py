"""The gate: may this adapter go live? Decides from measures taken before and after a round. No words, no model.

It goes by what a person would see: freely running answers to questions that training never saw, per kind of question, so
that damage in a corner cannot hide in a mean.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from spear_core.config import SpearConfig
from spear_core.training.probes import Measures, Probe, ProbedAnswer, ProbeKind, is_degenerate
from spear_core.training.trainer import SMALL_P

MERGE_ROOM = 0.5  # share of the budgets for drift that a merge may use up
FEW = 1  # answers of one kind that may change, or leak, whatever their share: kinds are small


class Reason(StrEnum):
    """Why an adapter was kept, or was not."""

    LEARNED = "learned"
    MORE_LIKELY = "more_likely"  # kept although nothing was confirmed: the better answer became more likely
    MERGED = "merged"
    CONSOLIDATED = "consolidated"
    UPLOADED = "uploaded"
    UNCHECKED = "unchecked"  # the gate is switched off
    NOTHING_TO_LEARN = "nothing_to_learn"
    BROKEN_NUMBERS = "broken_numbers"
    DEGENERATE = "degenerate"
    NOT_MORE_LIKELY = "not_more_likely"
    REJECTED_ROSE = "rejected_rose"
    STILL_WRONG = "still_wrong"
    FORGOTTEN = "forgotten"
    LESS_CERTAIN = "less_certain"
    LEAKED = "leaked"
    ANSWERS_CHANGED = "answers_changed"
    CORNER_CHANGED = "corner_changed"
    RECENT_CHANGED = "recent_changed"
    DRIFT = "drift"
    CORNER_DRIFT = "corner_drift"


# refused only for answers that moved without having been corrected
DRIFTS = frozenset(
    {
        Reason.LEAKED,
        Reason.ANSWERS_CHANGED,
        Reason.CORNER_CHANGED,
        Reason.RECENT_CHANGED,
        Reason.DRIFT,
        Reason.CORNER_DRIFT,
    }
)


@dataclass(frozen=True)
class ChangedAnswer:
    """An answer that this adapter gives otherwise than the one before it; of an earlier correction, than was confirmed."""

    kind: str
    question: str
    before: str
    after: str
    leaks: bool


@dataclass(frozen=True)
class GateFigures:
    """What a verdict rests on, as counts a person understands."""

    confirmed: int = 0
    learned: int = 0
    older: int = 0  # earlier confirmations that held before
    lost: int = 0  # of them, those that no longer do
    checked: int = 0  # answers to questions that were not corrected
    changed: tuple[ChangedAnswer, ...] = ()  # of those checked, and earlier confirmations that were lost
    neighbours: int = 0  # of those checked: questions like the corrected ones
    leaks: int = 0
    changed_from_base: int = 0  # of those checked, compared with the untouched model: what all rounds together changed
    words_changed: float = (
        0.0  # share of the words of starter answers that come out otherwise than the untouched model's
    )
    kind: str = ""  # of question, where one kind is the reason


@dataclass(frozen=True)
class GateVerdict:
    """Whether an adapter may serve, why, and the figures behind it."""

    passed: bool
    reason: Reason
    figures: GateFigures = field(default_factory=GateFigures)

    @property
    def is_drift(self) -> bool:
        return self.reason in DRIFTS


def decide(
    before: Measures,
    after: Measures,
    replies: Sequence[str],
    config: SpearConfig,
    probes: Sequence[Probe] = (),
    gained: Reason | None = None,
) -> GateVerdict:
    """Decide whether an adapter may serve (docs/ARCHITECTURE.md, "What the gate checks").

    (a) The new traces moved the right way, (b) what was learned and known holds, (c) sanity.

    `probes` are those that both measures answer. `gained` is the reason to keep what has no new traces: MERGED or
    CONSOLIDATED, which may move other answers half as far as no person asked for it, or UPLOADED.
    """
    figures = _figures(before, after, probes)

    def verdict(passed: bool, reason: Reason, kind: str = "") -> GateVerdict:
        return GateVerdict(passed, reason, replace(figures, kind=kind))

    if not after.finite or not math.isfinite(after.win_logp) or not math.isfinite(after.probe_kl):
        return verdict(False, Reason.BROKEN_NUMBERS)
    if any(is_degenerate(r) for r in replies):
        return verdict(False, Reason.DEGENERATE)
    if not config.gate_enabled:
        return verdict(True, Reason.UNCHECKED)
    is_learned = bool(after.learned) and all(after.learned)
    if gained is None and after.win_logp <= before.win_logp and not is_learned:
        return verdict(False, Reason.NOT_MORE_LIKELY)
    if after.rejected_p > before.rejected_p and after.rejected_p > SMALL_P:
        return verdict(False, Reason.REJECTED_ROSE)
    if after.learned and figures.learned < config.gate_min_learned * len(after.learned):
        return verdict(False, Reason.STILL_WRONG)
    if figures.lost > max(1, config.gate_max_forgotten * figures.older):
        return verdict(False, Reason.FORGOTTEN)
    if after.older_nll > before.older_nll + config.gate_max_older_nll_rise:
        return verdict(False, Reason.LESS_CERTAIN)
    if moved := _moved(before, after, probes, config):
        return verdict(False, *moved)
    room = MERGE_ROOM if gained in (Reason.MERGED, Reason.CONSOLIDATED) else 1.0
    # nearer than before is no drift: a style preference changes what the probes are held to
    if after.probe_kl > max(room * config.gate_max_probe_kl, before.probe_kl):
        return verdict(False, Reason.DRIFT)
    if after.worst_probe_kl > max(room * config.gate_max_worst_probe_kl, before.worst_probe_kl):
        return verdict(False, Reason.CORNER_DRIFT)
    return verdict(True, gained or (Reason.LEARNED if after.learned else Reason.MORE_LIKELY))


def _moved(
    before: Measures, after: Measures, probes: Sequence[Probe], config: SpearConfig
) -> tuple[Reason, str] | None:
    """The reason for a refusal because answers to other questions changed, and the kind of question."""
    of_kind: dict[str, list[tuple[ProbedAnswer, ProbedAnswer]]] = defaultdict(list)
    for probe, was, now in zip(probes, before.answers, after.answers, strict=True):
        of_kind[probe.kind].append((was, now))
    neighbours = of_kind.pop(ProbeKind.NEIGHBOUR, [])
    recent = of_kind.pop(ProbeKind.RECENT, [])
    leaks_before, leaks = (sum(pair[i].leaks for pair in neighbours) for i in (0, 1))
    if leaks > max(FEW, config.gate_max_leaks * len(neighbours), leaks_before):
        return Reason.LEAKED, ProbeKind.NEIGHBOUR
    changed_now = sum(was.text != now.text for was, now in recent)
    if changed_now > max(FEW, config.gate_max_changed * len(recent)):
        return Reason.RECENT_CHANGED, ProbeKind.RECENT
    everything = [pair for pairs in of_kind.values() for pair in pairs]
    if _too_many(everything, config.gate_max_changed, 0):
        return Reason.ANSWERS_CHANGED, ""
    for kind, pairs in sorted(of_kind.items()):
        if _too_many(pairs, config.gate_max_changed_of_a_kind, FEW):
            return Reason.CORNER_CHANGED, kind
    return None


def _too_many(pairs: Sequence[tuple[ProbedAnswer, ProbedAnswer]], share: float, few: int) -> bool:
    """Whether more answers than before, and than the budget allows, are other than the untouched model's."""
    was, now = (sum(pair[i].changed for pair in pairs) for i in (0, 1))
    return now > max(share * len(pairs), few, was)


def _figures(before: Measures, after: Measures, probes: Sequence[Probe]) -> GateFigures:
    changed = []
    for probe, was, now in zip(probes, before.answers, after.answers, strict=False):
        if was.text != now.text:
            changed.append(ChangedAnswer(probe.kind, probe.question, was.text, now.text, now.leaks))
    return GateFigures(
        confirmed=len(after.learned),
        learned=sum(after.learned),
        older=sum(before.held),
        lost=sum(was and not still for was, still in zip(before.held, after.held, strict=True)),
        checked=len(after.answers),
        changed=tuple(changed),
        neighbours=sum(p.kind == ProbeKind.NEIGHBOUR for p in probes),
        leaks=sum(a.leaks for a in after.answers),
        changed_from_base=sum(a.changed for a in after.answers),
        words_changed=after.probe_changed,
    )
