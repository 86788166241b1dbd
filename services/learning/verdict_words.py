"""The gate's verdicts as sentences for the page. Pure functions; the gate itself returns reasons and figures."""

from __future__ import annotations

from spear_core.training.gate import GateFigures, GateVerdict, Reason
from spear_core.training.probes import ProbeKind


def verdict_words(verdict: GateVerdict, gained: str = "") -> str:
    """`gained` says in words what a merge or a consolidation brings."""
    if verdict.passed:
        if verdict.reason == Reason.UNCHECKED:
            return "Kept without a check: checks are switched off."
        said = (
            _learned(verdict.reason, verdict.figures, gained),
            lost_words(verdict.figures),
            checked_words(verdict.figures),
        )
        return f"Kept: {'; '.join(filter(None, said))}."
    return f"Not kept: {_refused(verdict.reason, verdict.figures)}."


def checked_words(figures: GateFigures) -> str:
    """How many answers to other questions were compared with those before the round, and how many changed."""
    if not figures.checked:
        return "no other answers were checked"
    changed = sum(c.kind != ProbeKind.EARLIER for c in figures.changed)
    said = "none changed" if not changed else "1 changed" if changed == 1 else f"{changed} changed"
    return f"{_count(figures.checked, 'other answer')} checked, {said}"


def lost_words(figures: GateFigures) -> str:
    """How many earlier confirmations the model no longer gives; empty where it gives all that it gave before."""
    return (
        f"{figures.lost} of {_count(figures.older, 'earlier correction')} must be practised again"
        if figures.lost
        else ""
    )


def _learned(reason: Reason, figures: GateFigures, gained: str) -> str:
    if gained:
        return gained
    if reason == Reason.CONSOLIDATED:
        return "all corrections were trained together"
    if reason == Reason.UPLOADED:
        return "the adapter fits"
    if figures.confirmed == figures.learned == 1:
        return "the correction is learned"
    if figures.confirmed:
        return f"{figures.learned} of {figures.confirmed} corrections are learned"
    return "the better answer became more likely"


def _refused(reason: Reason, figures: GateFigures) -> str:
    changed = _count(figures.changed_from_base, "answer")
    words = {
        Reason.BROKEN_NUMBERS: "the training gave invalid numbers",
        Reason.DEGENERATE: "its replies were empty or repeated themselves",
        Reason.NOT_MORE_LIKELY: "the right answer did not become more likely",
        Reason.REJECTED_ROSE: "the rejected answer became more likely",
        Reason.STILL_WRONG: "asked again after the training, the model still gave another answer"
        if figures.confirmed == 1
        else f"asked again after the training, the model still gave another answer to {figures.confirmed - figures.learned} "
        f"of {figures.confirmed} corrected questions",
        Reason.FORGOTTEN: f"it would have forgotten {figures.lost} of {figures.older} earlier confirmations",
        Reason.LESS_CERTAIN: "earlier confirmations would have become much less certain",
        Reason.LEAKED: f"{figures.leaks} of {_count(figures.neighbours, 'similar question')} would have got an answer that "
        "was taught for another one",
        Reason.ANSWERS_CHANGED: f"{changed} of {figures.checked} to other questions would differ from the base model's",
        Reason.CORNER_CHANGED: f"too many answers about {figures.kind} would have changed",
        Reason.RECENT_CHANGED: "recent replies that were not rejected would have changed",
        Reason.DRIFT: f"it would have changed answers to other questions ({100 * figures.words_changed:.1f} % of their words)",
        Reason.CORNER_DRIFT: "a few answers to other questions would have changed a lot",
        Reason.NOTHING_TO_LEARN: "there was nothing to learn",
    }
    return words[reason]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
