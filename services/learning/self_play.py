"""Background self-play: judges revisions without a verdict, asks learned questions again, finds relapses. No training.

A revision without a verdict is judged (spear_core/training/judge.py) once the person has moved on or
`verdict_grace_seconds` have passed. Where all revisions were refused, more are sampled and judged. What the judge accepts
is trained with at most half confidence. Its thresholds are calibrated on people's verdicts on revisions of this base model;
until there are enough, those of the configuration apply.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from feedback_store import Message, Trace
from feedback_store.figures import EARLIER
from feedback_store.records import TraceStatus
from services.chat.conversation_tree import attempts, prompt_up_to
from services.chat.revisions import Revision
from services.engine import Engine
from services.learning import labels
from services.learning.contradictions import replaced
from services.learning.round_runner import REPLAY_SAMPLE, training_trace
from spear_core.inference.rollout import answer_all, replies
from spear_core.models.prompts import revision_messages
from spear_core.models.thoughts import answer_of
from spear_core.training.judge import (
    Case,
    Judgement,
    Score,
    Scored,
    Thresholds,
    fit_thresholds,
    is_clean,
    judge,
    normalised,
    scores,
)
from spear_core.training.scoring import score_rows

log = logging.getLogger(__name__)
REASKED_AT_A_TIME = 8
JUDGED_AT_A_TIME = 16
TRIES = 8
TRY_TEMPERATURE = 0.8
OWN_VERDICTS_NEEDED = 40  # fewer cannot distinguish a precision of 0.98 from 0.9
OWN_VERDICTS_USED = 400  # the newest; older ones take time and change little
TRACES_A_VERDICT = 4  # of one corrected reply at most, including withdrawn ones
JUDGE_PRECISION = 0.98
# a round may have trained the losing trace of the complaint before the revision is judged
WAITING_STATUS: tuple[TraceStatus, ...] = ("pending", "trained", "skipped")
LOOKED_BACK = 200  # losing traces of each such status; a revision waits for minutes only


class SelfPlayService:
    """Background jobs that are cheap and may be called at any interval. Each returns how much it did."""

    def __init__(self, engine: Engine) -> None:
        # a copy keeps its model where another one comes to serve in the middle of a job
        self._engine = dataclasses.replace(engine)
        self._store = engine.store
        self._asked: dict[str, int] = {}  # trace id -> adapter version under which it was last asked
        self._scores: dict[str, Score] = {}  # revision id -> its score under the base model, which never changes
        self._calibrated_on: dict[
            str, bool
        ] = {}  # revision id -> whether it was right; the data that `_own` was calibrated on
        self._own: Thresholds | None = None
        self._said_nothing_fits = False
        self.first_try_right = 0

    # -- the judge -------------------------------------------------------------------------------------------

    def judge_waiting(self) -> int:
        """Judge revisions without a verdict. Returns how many traces that made."""
        engine = self._engine
        waiting = self._unjudged()[:JUDGED_AT_A_TIME]
        if not waiting:
            return 0
        thresholds = self.thresholds()
        if thresholds is None:
            return 0  # they keep waiting: more verdicts may give thresholds later
        made = 0  # store each judgement, so that no revision is judged twice
        found = self._score([case for _, _, case in waiting])
        for (first, revision, case), score in zip(waiting, found, strict=True):
            verdict = self._judge(case, score, thresholds)
            figures = {"gain": round(score.gain, 4), "certainty": round(score.certainty, 4)}
            with self._store.transaction():
                if not self._stands(first.id, revision):
                    continue
                self._store.add_event("judged", revision.id, {**figures, "accepted": verdict.accepted})
                if verdict.accepted and verdict.confidence > 0:
                    traces = labels.judged(
                        engine.base, engine.as_trained(case.prompt), first, revision, verdict.confidence
                    )
                    self._store.replace_traces(first.id, traces)
                    made += len(traces)
        return made

    def thresholds(self) -> Thresholds | None:
        """The judge's thresholds: fitted to people's verdicts where there are enough, else those of the configuration.

        None where no threshold reaches JUDGE_PRECISION on the verdicts; the judge then accepts nothing.
        """
        config, settings = self._engine.config, self._engine.loaded.settings
        verdicts = self._verdicts()
        if len(verdicts) < OWN_VERDICTS_NEEDED:
            return Thresholds(config.judge_tau, config.judge_min_p, config.judge_tau_full)
        given = {revision_id: right for revision_id, (_, right) in verdicts.items()}
        if given != self._calibrated_on:
            new = [i for i in verdicts if i not in self._scores]
            self._scores.update(zip(new, self._score([verdicts[i][0] for i in new]), strict=True))
            scored = [Scored(self._scores[i], is_clean(case, settings), right) for i, (case, right) in verdicts.items()]
            self._own, self._calibrated_on = fit_thresholds(scored, JUDGE_PRECISION), given
            if self._own is None and not self._said_nothing_fits:
                log.warning(
                    "the judge accepts nothing: on %d verdicts no threshold reaches a precision of %.2f",
                    len(given),
                    JUDGE_PRECISION,
                )
            self._said_nothing_fits = self._own is None
        return self._own

    def _score(self, cases: list[Case]) -> list[Score]:
        """Score cases under the base model. An adapter would be certain of every answer that it learned."""
        engine = self._engine
        return scores(
            engine.shared_models.base,
            engine.encoder,
            engine.loaded.settings,
            cases,
            engine.pad_id,
            engine.config.micro_batch,
            engine.priority.give_way,
        )

    def _judge(self, case: Case, score: Score, thresholds: Thresholds) -> Judgement:
        settings = self._engine.loaded.settings
        return judge(case, score.gain, settings, thresholds.tau, thresholds.tau_full, score.certainty, thresholds.min_p)

    def _verdicts(self) -> dict[str, tuple[Case, bool]]:
        """Revision id -> (case, whether it was confirmed), of the newest revisions of this base model with a hint."""
        subjects = self._store.newest_subjects(self._engine.base, TRACES_A_VERDICT * OWN_VERDICTS_USED)
        found: list[tuple[str, str, Case, bool]] = []
        for conversation_id in {conversation_id for conversation_id, _ in subjects}:
            self._engine.priority.step_aside()
            if not self._store.conversation(conversation_id).learn:
                continue
            messages = self._store.messages(conversation_id)
            for revision in messages:
                if (conversation_id, revision.revises_id) in subjects and revision.hint and revision.verdict:
                    case = _case(messages, revision)
                    found.append((revision.created_at_utc, revision.id, case, revision.verdict == "better"))
        found.sort(key=lambda verdict: verdict[:2])
        return {revision_id: (case, right) for _, revision_id, case, right in found[-OWN_VERDICTS_USED:]}

    def _unjudged(self) -> list[tuple[Message, Message, Case]]:
        """(first reply, last revision, case) of the revisions that are due to be judged."""
        done = {e.message_id for e in self._store.events(kind="judged")}
        found: dict[str, tuple[Message, Message, Case]] = {}  # by first reply
        for trace in self._complaints():
            self._engine.priority.step_aside()
            messages = self._store.messages(trace.conversation_id or "")
            tries = [m for m in messages if m.revises_id == trace.subject_id]
            last = tries[-1] if tries else None
            # the last one may be an edit, which has no hint
            if (
                last is None
                or last.verdict is not None
                or not last.complete
                or last.is_cut
                or not last.hint
                or last.id in done
            ):
                continue
            if not self._moved_on(messages, last) or self._store.is_settled(trace):
                continue
            first = next(m for m in messages if m.id == trace.subject_id)
            if self._store.vote(first.id) < 0:  # a complaint withdrawn after it was trained keeps its trace
                found[first.id] = (first, last, _case(messages, last))
        return list(found.values())

    def _stands(self, first_id: str, revision: Message) -> bool:
        """Whether the revision still has no verdict: a person may have given one during the scoring."""
        tries = self._store.revisions_of(first_id)  # empty where the conversation was deleted
        return (
            bool(tries)
            and (tries[-1].id, tries[-1].verdict) == (revision.id, revision.verdict)
            and self._store.vote(first_id) < 0
        )

    def _complaints(self) -> list[Trace]:
        """The newest losing traces with a hint but without a right revision, oldest first."""
        found = []
        for status in WAITING_STATUS:
            newest = self._store.traces(
                base=self._engine.base, status=status, side="lose", limit=LOOKED_BACK, newest_first=True
            )
            found += [t for t in newest[::-1] if t.source == "unfixed" and t.conversation_id is not None]
        return found

    def _moved_on(self, messages: list[Message], revision: Message) -> bool:
        if any(m.position > revision.position and m.role == "user" for m in messages):
            return True
        age = datetime.now(UTC) - datetime.fromisoformat(revision.created_at_utc)
        return age.total_seconds() >= self._engine.config.verdict_grace_seconds

    def try_again(self) -> int:
        """Sample further revisions of one reply whose revisions were all refused, and let the judge accept one or none.

        Each reply is tried once. Returns how many traces that made.
        """
        engine, done = self._engine, {e.message_id for e in self._store.events(kind="tried again")}
        thresholds = self.thresholds()
        for trace in self._complaints() if thresholds else []:
            engine.priority.step_aside()
            messages = self._store.messages(trace.conversation_id or "")
            tries = [m for m in messages if m.revises_id == trace.subject_id and m.kind == "revision"]
            if not tries or tries[-1].verdict != "still_wrong" or not tries[-1].hint or trace.subject_id in done:
                continue
            if self._store.is_settled(trace) or not self._moved_on(messages, tries[-1]):
                continue
            first = next(m for m in messages if m.id == trace.subject_id)
            case = self._best_try(_case(messages, tries[-1]), {normalised(m.text) for m in tries})
            self._store.add_event("tried again", first.id, {"found": case is not None})
            if case is None or thresholds is None:
                return 0
            (score,) = self._score([case])
            verdict = self._judge(case, score, thresholds)
            if not verdict.accepted or verdict.confidence <= 0:
                return 0
            revision = dataclasses.replace(first, text=case.revision)
            traces = labels.judged(engine.base, engine.as_trained(case.prompt), first, revision, verdict.confidence)
            with self._store.transaction():
                if not self._stands(first.id, tries[-1]):
                    return 0
                self._store.replace_traces(first.id, traces)
            return len(traces)
        return 0

    def _best_try(self, case: Case, refused: set[str]) -> Case | None:
        """The best of TRIES sampled revisions and of the sentences with the stated answer, by the base model's certainty.

        Refused answers are left out.
        """
        engine = self._engine
        ((*sampled,),) = replies(
            engine.shared_models.serving.model,
            engine.loaded.tokenizer,
            [revision_messages(list(case.prompt), case.attempts, engine.loaded.settings)],
            context_tokens=engine.loaded.context_tokens,
            max_new_tokens=engine.max_new_tokens,
            temperature=TRY_TEMPERATURE,
            samples=TRIES,
            priority=engine.priority.give_way,
        )
        asked = Revision(list(case.prompt), case.attempts, engine.loaded.settings)
        sampled += [c.text for c in asked.candidates(engine.shared_models.serving.model, engine.encoder)]
        different = {normalised(text): dataclasses.replace(case, revision=text) for text in map(answer_of, sampled)}
        cases = [c for key, c in different.items() if key not in refused and is_clean(c, engine.loaded.settings)]
        surest = zip(self._score(cases), cases, strict=True)
        return max(surest, key=lambda pair: pair[0].certainty, default=(None, None))[1]

    # -- asking again ----------------------------------------------------------------------------------------

    def reask(self) -> int:
        """Ask some learned questions of the current adapter; a relapse makes new traces. Returns the number of relapses.

        What the last round cost comes first. Answers are checked by teacher forcing, because a learned answer may be
        longer than the longest reply.
        """
        engine = self._engine
        version = engine.shared_models.serving.version
        asked = [trace_id for trace_id, under in self._asked.items() if under == version]
        due = self._store.replay_wins(engine.base, REPLAY_SAMPLE, asked, engine.seed)
        if not due:
            return 0
        lost_last = self._lost_last()
        due = sorted(due, key=lambda trace: trace.prompt[-1]["content"] not in lost_last)
        due = self._without_replaced(due[:REASKED_AT_A_TIME], version)
        if not due:
            return 0
        model = engine.shared_models.serving.model
        encoded = [engine.encoder.trace(training_trace(t)) for t in due]
        rows = score_rows(model, encoded, engine.pad_id, engine.config.micro_batch, engine.priority.give_way)
        lost = [trace for trace, row in zip(due, rows, strict=True) if not row.learned]
        answers = answer_all(
            model,
            engine.loaded.tokenizer,
            [t.prompt for t in lost],
            context_tokens=engine.loaded.context_tokens,
            max_new_tokens=engine.max_new_tokens,
            priority=engine.priority.give_way,
        )
        self._asked.update((trace.id, version) for trace in due)
        self.first_try_right += len(due) - len(lost)
        relapses = 0
        for trace, said in zip(lost, answers, strict=True):
            if normalised(answer_of(said)) == normalised(answer_of(trace.completion)):
                self.first_try_right += 1
                continue
            with self._store.transaction():
                if not self._store.is_replayed(trace.id):
                    continue  # withdrawn, forgotten or deleted meanwhile
                assert trace.subject_id is not None  # a replayed trace's has a vote
                subject = self._store.message(trace.subject_id)
                self._store.add_traces(labels.relapse(trace, subject, said))
            relapses += 1
            log.info("a learned answer was lost under v%d; it is trained again", version)
        return relapses

    def _lost_last(self) -> set[str]:
        """The questions of earlier corrections that the newest round's check found lost."""
        last = self._store.last_round(self._engine.base)
        gate = last.figures.gate if last else None
        return {c.question for c in gate.changed or () if c.kind == EARLIER} if gate else set()

    def _without_replaced(self, due: Sequence[Trace], version: int) -> list[Trace]:
        """Without those that a newer answer contradicts, learned or waiting: the person has changed their mind."""
        base = self._engine.base
        known = self._store.replay_wins(base, REPLAY_SAMPLE, [t.id for t in due], self._engine.seed)
        known += self._store.queued_wins(base, REPLAY_SAMPLE)
        gone = replaced([*due, *known])
        self._asked.update((trace_id, version) for trace_id in gone)
        return [t for t in due if t.id not in gone]


def _case(messages: list[Message], revision: Message) -> Case:
    """The revision with the refused replies and hints before it, as the model was shown them."""
    first = next(m for m in messages if m.id == revision.revises_id)
    assert first.parent_id is not None  # a trace is only made of a reply to a question
    tried = attempts([m for m in messages if m.position <= revision.position], first.id)
    (reply, hint), *later = tried
    return Case(prompt_up_to(messages, first.parent_id), reply, hint, revision.text, tuple(later))
