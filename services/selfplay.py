"""Background self-play: judges revisions nobody judged, asks learned questions again, notices relapses. No training.

A hint that was answered by a revision but by no verdict is left to the judge (spear_core/judge.py) once the person has
moved on or `verdict_grace_seconds` have passed. What it accepts trains with at most half confidence.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from feedback_store import Message
from services import labels
from services.conversation import prompt_up_to
from services.engine import Engine
from spear_core.judge import Case, gains, judge, normalised
from spear_core.rollout import answer_all

log = logging.getLogger(__name__)
REASKED_AT_A_TIME = 8
JUDGED_AT_A_TIME = 16


class SelfPlayService:
    """Both jobs are cheap and may be called at any interval; they return how much they did."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store
        self._asked: dict[str, int] = {}  # trace id -> adapter version it was last asked under
        self.first_try_right = 0
        self.reasked = 0

    # -- the judge -------------------------------------------------------------------------------------------

    def judge_waiting(self) -> int:
        """Judge revisions that stand without a verdict. Returns how many traces they became."""
        engine = self._engine
        waiting = self._unjudged()[:JUDGED_AT_A_TIME]
        cases = [case for _, _, case in waiting]
        if not cases:
            return 0
        settings = engine.loaded.settings
        serving = engine.twins.serving.model
        made = 0  # every judgement is stored, so that no revision is judged twice
        for (first, revision, case), gain in zip(
            waiting, gains(serving, engine.encoder, settings, cases, engine.pad_id), strict=True
        ):
            verdict = judge(case, gain, settings, engine.config.judge_tau, engine.config.judge_tau_full)
            self._store.add_event("judged", revision.id, {"gain": round(gain, 4), "accepted": verdict.accepted})
            if verdict.accepted and verdict.confidence > 0:
                traces = labels.judged(engine.base, list(case.prompt), first, revision, verdict.confidence)
                self._store.replace_traces(first.id, traces)
                made += len(traces)
        return made

    def _unjudged(self) -> list[tuple[Message, Message, Case]]:
        """(first reply, its last revision, the case) where a hint was answered, nobody judged, and the time has come."""
        done = {e.message_id for e in self._store.events(kind="judged")}
        found = []
        for trace in self._store.traces(base=self._engine.base, status="pending", side="lose"):
            if trace.source != "unfixed" or trace.conversation_id is None:
                continue
            messages = self._store.messages(trace.conversation_id)
            revisions = [m for m in messages if m.revises_id == trace.subject_id and m.kind == "revision"]
            if not revisions:
                continue
            last = revisions[-1]
            if last.verdict is not None or not last.complete or not last.hint or last.id in done:
                continue
            if not self._moved_on(messages, last):
                continue
            first = next(m for m in messages if m.id == trace.subject_id)
            assert first.parent_id is not None  # a trace is only made of a reply to a question
            prompt = prompt_up_to(messages, first.parent_id)
            found.append((first, last, Case(prompt, first.text, last.hint, last.text)))
        return found

    def _moved_on(self, messages: list[Message], revision: Message) -> bool:
        if any(m.position > revision.position and m.role == "user" for m in messages):
            return True
        age = datetime.now(UTC) - datetime.fromisoformat(revision.created_at_utc)
        return age.total_seconds() >= self._engine.config.verdict_grace_seconds

    # -- asking again ----------------------------------------------------------------------------------------

    def reask(self) -> int:
        """Ask some learned questions under the current adapter; a relapse becomes a fresh pair. Returns the relapses."""
        engine = self._engine
        version = engine.twins.serving.version
        trained = self._store.replay_wins(engine.base, 10_000, [], engine.seed)
        due = [t for t in trained if self._asked.get(t.id) != version][:REASKED_AT_A_TIME]
        if not due:
            return 0
        answers = answer_all(
            engine.twins.serving.model,
            engine.loaded.tokenizer,
            [t.prompt for t in due],
            context_tokens=engine.loaded.context_tokens,
            max_new_tokens=engine.max_new_tokens,
        )
        relapses = 0
        for trace, said in zip(due, answers, strict=True):
            self._asked[trace.id] = version
            self.reasked += 1
            if normalised(said) == normalised(trace.completion):
                self.first_try_right += 1
                continue
            if trace.subject_id is None:
                continue  # its conversation was deleted meanwhile
            relapses += 1
            subject = self._store.message(trace.subject_id)
            self._store.add_traces(labels.relapse(trace, subject, said))
            log.info("a learned answer was lost under v%d; it is trained again", version)
        return relapses
