"""From feedback to traces: the table of docs/ARCHITECTURE.md as pure functions. x is the prompt; a hint is in no trace."""

from __future__ import annotations

import json
from collections.abc import Sequence

from feedback_store import Message, NewTrace, Trace
from feedback_store.records import Side, Source
from spear_core.models.thoughts import answer_of
from spear_core.training.judge import normalised

CONFIRMED = 1.0
PRAISE: tuple[Source, ...] = (
    "liked",
)  # sources of wins that teach nothing new, so nothing of them can leak to other questions
UNFIXED = 0.5  # arXiv 2605.07977: a losing answer that was never fixed counts half

Prompt = list[dict[str, str]]


def _trace(
    side: Side, base: str, prompt: Prompt, said: Message, first: Message, confidence: float, source: Source
) -> NewTrace:
    return NewTrace(
        side=side,
        conversation_id=first.conversation_id,
        message_id=said.id,
        subject_id=first.id,
        prompt=prompt,
        completion=said.text,
        confidence=confidence,
        source=source,
        base=base,
    )


def liked(base: str, prompt: Prompt, reply: Message) -> list[NewTrace]:
    """Traces of a thumbs-up: a win, but none for a reply that was cut off, whose end must not be learned."""
    is_whole = bool(reply.text.strip()) and not reply.is_cut
    return [_trace("win", base, prompt, reply, reply, CONFIRMED, "liked")] if is_whole else []


def disliked(base: str, prompt: Prompt, reply: Message, source: Source = "no_hint") -> list[NewTrace]:
    """Traces of a thumbs-down without a confirmed better answer."""
    return [_trace("lose", base, prompt, reply, reply, UNFIXED, source)] if reply.text.strip() else []


def replaced(base: str, prompt: Prompt, first: Message, right: Message, source: Source) -> list[NewTrace]:
    """Traces of a reply replaced by a confirmed revision (`confirmed`) or by the person's own text (`edited`).

    A revision that was cut off makes no win; the first reply then counts as rejected without a better answer.
    """
    if right.is_cut:
        return disliked(base, prompt, first, "unfixed")
    traces = [_trace("win", base, prompt, right, first, CONFIRMED, source)]
    if first.text.strip() and normalised(answer_of(first.text)) != normalised(answer_of(right.text)):
        traces.append(_trace("lose", base, prompt, first, first, CONFIRMED, source))
    return traces


def judged(base: str, prompt: Prompt, first: Message, revision: Message, confidence: float) -> list[NewTrace]:
    """Traces of a revision that the judge accepted; both have the judge's confidence."""
    traces = [_trace("win", base, prompt, revision, first, confidence, "judged")]
    if first.text.strip():
        traces.append(_trace("lose", base, prompt, first, first, confidence, "judged"))
    return traces


def latest_word(claimed: Sequence[Trace]) -> list[Trace]:
    """The traces without those that a newer one contradicts: one win per prompt, and no losing trace equal to it.

    `claimed` is oldest first. Feedback of a person takes precedence over the judge. Empty completions, which stores of
    earlier versions may hold, are left out.
    """
    claimed = [trace for trace in claimed if trace.completion.strip()]
    win_of: dict[str, Trace] = {}
    for trace in claimed:
        said = win_of.get(to_key(trace))
        if trace.side == "win" and (said is None or trace.source != "judged" or said.source == "judged"):
            win_of[to_key(trace)] = trace
    kept = []
    for trace in claimed:
        win = win_of.get(to_key(trace))
        if trace.side == "win" and trace is not win:
            continue
        if trace.side == "lose" and win and _says(trace) == _says(win):
            continue
        kept.append(trace)
    return kept


def _says(trace: Trace) -> str:
    return normalised(answer_of(trace.completion))


def to_key(trace: Trace) -> str:
    """A key that is equal for traces on the same prompt."""
    return json.dumps(trace.prompt, sort_keys=True)


def halves(claimed: Sequence[Trace]) -> list[list[str]]:
    """Split refused traces into two lists of ids, by prompts with a win; no lists where there is only one such prompt."""
    prompts = list(dict.fromkeys(to_key(t) for t in claimed if t.side == "win"))
    if len(prompts) < 2:
        return []
    first = set(prompts[: len(prompts) // 2])
    return [[t.id for t in claimed if (to_key(t) in first) == is_first] for is_first in (True, False)]


def relapse(trained: Trace, first: Message, said: str) -> list[NewTrace]:
    """Traces of a learned answer that the model no longer gives: the win again, and what it says now as the loser.

    A reply that is the beginning of a long right answer, cut at the longest reply, is not made a loser.
    """
    is_beginning = answer_of(trained.completion).startswith(answer_of(said))
    pair: list[tuple[Side, str]] = [
        ("win", trained.completion),
        ("lose", "" if is_beginning else said),
    ]
    return [
        NewTrace(
            side=side,
            conversation_id=first.conversation_id,
            message_id=trained.message_id or first.id,
            subject_id=first.id,
            prompt=trained.prompt,
            completion=text,
            confidence=CONFIRMED,
            source="relapse",
            base=trained.base,
        )
        for side, text in pair
        if text.strip()
    ]
