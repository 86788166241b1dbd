"""What the trainer and the gate measured, as records of the store. Pure functions, except for the process's peak memory."""

from __future__ import annotations

import resource

from feedback_store import ChangedAnswerRecord, GateRecord, MeasureSummary, RoundFigures
from spear_core.training.gate import GateVerdict
from spear_core.training.probes import Measures
from spear_core.training.round import RoundResult


def round_figures(result: RoundResult) -> RoundFigures:
    """All that is recorded of a round, a consolidation or a merge, whether its adapter was kept or not."""
    report = result.report
    return RoundFigures(
        steps=report.steps,
        attempts=result.attempts,
        learned=report.learned,
        skipped=report.skipped,
        win_loss=report.win_loss,
        lose_loss=report.lose_loss,
        anchor_kl=report.anchor_kl,
        neighbour_kl=report.neighbour_kl,
        seconds=report.seconds,
        round_seconds=round(result.seconds, 3),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        before=measure_summary(result.before),
        after=measure_summary(result.after),
        gate=gate_record(result.verdict),
    )


def measure_summary(measures: Measures) -> MeasureSummary:
    """The means as measured, and of what was asked the counts."""
    return MeasureSummary(
        win_logp=round(measures.win_logp, 4),
        rejected_p=round(measures.rejected_p, 4),
        learned=sum(measures.learned),
        confirmed=len(measures.learned),
        older_held=sum(measures.held),
        older=len(measures.held),
        older_nll=round(measures.older_nll, 4),
        probe_kl=round(measures.probe_kl, 5),
        worst_probe_kl=round(measures.worst_probe_kl, 5),
        probe_changed=round(measures.probe_changed, 4),
        answers_changed=sum(answer.changed for answer in measures.answers),
        answers=len(measures.answers),
        leaks=sum(answer.leaks for answer in measures.answers),
    )


def gate_record(verdict: GateVerdict) -> GateRecord:
    """The verdict's reason and counts, with the answers that changed."""
    figures = verdict.figures
    return GateRecord(
        reason=verdict.reason.value,
        confirmed=figures.confirmed,
        learned=figures.learned,
        older=figures.older,
        lost=figures.lost,
        checked=figures.checked,
        changed=tuple(
            ChangedAnswerRecord(str(c.kind), c.question, c.before, c.after, c.leaks) for c in figures.changed
        ),
        neighbours=figures.neighbours,
        leaks=figures.leaks,
        changed_from_base=figures.changed_from_base,
        words_changed=figures.words_changed,
        kind=str(figures.kind),
    )
