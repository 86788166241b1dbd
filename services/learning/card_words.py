"""The sentences of the status card. Pure functions of stored records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from feedback_store import ProofRecord, Round, Trace
from feedback_store.records import TraceStatus
from services.views import ChangedAnswerView, LearnedStatus, LearnedView, Phase, Proof
from spear_core.models.thoughts import answer_of
from spear_core.training.round import RoundResult
from spear_core.training.traces import Messages

QUEUED: tuple[Phase, str, str] = "queued", "A correction is queued.", "Training starts in a moment."


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def resting(
    last: Round | None,
    version: int,
    wins: int,
    rejected: int,
    rebuilds: int,
    *,
    paused: bool,
    note: str,
    rests: bool = False,
    undone: int = 0,
    adopted: str = "",
) -> tuple[Phase, str, str]:
    """Phase, headline and detail while no round runs.

    Args:
        last: the newest round.
        version: of the adapter that serves.
        wins: right answers that wait.
        rejected: questions with rejected answers that wait.
        rebuilds: rounds that wait to be trained again after a forgetting.
        paused: whether learning is paused.
        note: what went wrong last, or empty.
        rests: whether learning waits a while because of it.
        undone: the newest version where it was undone, else 0.
        adopted: a sentence on style preferences of the last round, or empty.
    """
    if paused:
        again = f"{_number(rebuilds, 'round')} will be trained again without what you forgot" if rebuilds else ""
        new = f"{_number(wins, 'confirmed answer')} will be learned" if wins else ""
        waiting = " and ".join(filter(None, (again, new)))
        return "paused", "Learning is paused.", f"{waiting} when you resume." if waiting else "Nothing is waiting."
    if rebuilds and not rests:
        return "queued", "What remains is queued.", "Training again without what you forgot starts in a moment."
    if wins and not rests:
        return QUEUED
    if note:
        return "failed", "Something went wrong.", note
    if last and last.status == "running":  # its phase is not known yet
        return QUEUED
    is_undone = undone > version
    if last and last.status == "discarded" and not (is_undone and last.parent_version != version):  # undone later
        return "not_kept", "Not kept.", last.verdict.removeprefix("Not kept: ")
    if rejected:  # of a question, not of an answer: of several attempts at one only the first is a trace
        noted = f"{_number(rejected, 'question')} {'was' if rejected == 1 else 'were'} answered wrongly."
        how = "Nothing trains until one answer is confirmed: press Better under a revision, or Write it myself."
        return "waiting", "Waiting for one right answer.", f"{noted} {how}"
    if is_undone:
        now = f"v{version} answers" if version else "The base model answers"
        return "undone", f"Undone: v{undone} is no longer used.", f"{now} now. v{undone} can be restored."
    if last and last.status == "promoted" and version == last.adapter_version:
        return "live", f"Learned: v{version} answers now.", f"{last.verdict} {adopted}".strip()
    if version:
        return "live", f"v{version} answers now.", "Correct a reply to teach it more."
    return (
        "idle",
        "Nothing learned yet.",
        "Press thumbs-down on a wrong reply and say in a few words what should change.",
    )


def adopted_words(hints: Sequence[str]) -> str:
    """A sentence that names style preferences (services/learning/style_preferences.py); empty without any."""
    quoted = [f"“{hint}”" for hint in hints]
    return f"Your preference {' and '.join(quoted)} now applies to all answers." if quoted else ""


def counted(claimed: Sequence[Trace], replayed: int) -> str:
    """A sentence on what a round trains on."""
    wins = sum(t.side == "win" for t in claimed)
    said = f"{_number(wins, 'confirmed answer')}, {len(claimed) - wins} rejected"
    return f"{said}, {replayed} earlier repeated." if replayed else f"{said}."


def proof_record(result: RoundResult, taught: Sequence[Trace]) -> ProofRecord | None:
    """The proof of a round for the store; `before` is the reply that a person rejected, where there is one."""
    if result.proof is None:
        return None
    prompt, before, after = result.proof
    about = [t for t in taught if t.prompt == list(prompt)]
    seen = rejected_reply(prompt, taught)
    return ProofRecord(
        prompt=prompt[-1]["content"],
        before=answer_of(before if seen is None else seen),
        after=answer_of(after),
        was_seen=seen is not None,
        conversation_id=next((t.conversation_id for t in about if t.conversation_id), ""),
    )


def rejected_reply(prompt: Messages, taught: Sequence[Trace]) -> str | None:
    """The newest reply to this prompt that a person rejected; None where there is none."""
    seen = [t.completion for t in taught if t.side == "lose" and t.source != "relapse" and t.prompt == list(prompt)]
    return seen[-1] if seen else None  # a relapse nobody saw


def proof_of(last: Round | None, version: int) -> Proof | None:
    """The proof of the adapter that serves; None once it was undone."""
    if last is None or last.proof is None or last.status != "promoted" or last.adapter_version != version:
        return None
    kept = last.proof
    return Proof(
        kept.prompt, kept.before, kept.after, last.parent_version, version, kept.conversation_id, kept.was_seen
    )


def checked_of(last: Round | None, version: int, phase: Phase) -> tuple[int, tuple[ChangedAnswerView, ...]]:
    """How many answers the last round's check compared, and those that changed.

    None where its version does not serve, but for a refused one while the card says that it was not kept.
    """
    gate = last.figures.gate if last is not None else None
    serves = last is not None and last.status == "promoted" and last.adapter_version == version
    if gate is None or not (serves or phase == "not_kept"):
        return 0, ()
    changed = tuple(ChangedAnswerView(c.question, c.before, c.after, c.kind, c.leaks) for c in gate.changed or ())
    return gate.checked or 0, changed


NO_ANSWER: LearnedStatus = "no answer"
_STATUS: dict[TraceStatus, LearnedStatus] = {
    "pending": "waiting",
    "claimed": "waiting",
    "trained": "learned",
    "rolled_back": "undone",
    "skipped": "not kept",
    "withdrawn": "withdrawn",
}


def _refused(completion: str, since: Sequence[Trace]) -> bool:
    """Whether an answer was rejected by later feedback."""
    return any(t.side == "lose" and t.completion == completion for t in since)


def learned_views(
    traces: Sequence[Trace], limit: int, made: Mapping[int | None, int] | None = None
) -> list[LearnedView]:
    """The latest feedback on each reply, newest first; withdrawn feedback only where there is no other.

    A rejected reply without a right answer is never "learned", even if its trace was trained.

    Args:
        traces: oldest first.
        limit: of the entries.
        made: round id -> the version that it made.
    """
    by_subject: dict[str, list[Trace]] = {}
    for trace in traces:
        if trace.subject_id is not None:
            by_subject.setdefault(trace.subject_id, []).append(trace)
    views = []
    for subject, about in by_subject.items():
        standing = [t for t in about if t.status != "withdrawn"] or about
        wins = [t for i, t in enumerate(standing) if t.side == "win" and not _refused(t.completion, standing[i:])]
        loses = [t for t in standing if t.side == "lose"]
        last = (wins or loses)[-1]
        views.append(
            LearnedView(
                subject,
                last.prompt[-1]["content"],
                answer_of(wins[-1].completion) if wins else "",
                answer_of(loses[-1].completion) if loses else "",
                last.source,
                _STATUS[last.status] if wins or last.status == "withdrawn" else NO_ANSWER,
                last.confidence,
                last.created_at_utc,
                (made or {}).get(last.round_id, 0) if wins and last.status in ("trained", "rolled_back") else 0,
            )
        )
    return sorted(views, key=lambda v: v.created_at_utc, reverse=True)[:limit]
