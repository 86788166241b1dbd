"""One round, from claimed traces to a promoted adapter, and consolidation. rounds.py decides which round comes next."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from feedback_store import MergeRecord, Round, StoreUnavailable, Trace, TracesWithdrawn, UnknownRecord
from services.engine import Engine
from services.learning import card_words, labels
from services.learning.anchors import HeldAnswers
from services.learning.contradictions import replaced
from services.learning.figures import round_figures
from services.learning.joint_scope import Coverage
from services.learning.lineage import Lineage
from services.learning.live_status import LiveStatus
from services.learning.neighbours import NeighbourService
from services.learning.peer_questions import CONSOLIDATED, ByPeer, together
from services.learning.verdict_words import verdict_words
from spear_core.errors import AdapterUnwritable, SpearError, TrainingFailed
from spear_core.inference.scope import Covers, everything
from spear_core.models.shared_base import AdapterState
from spear_core.training.gate import GateVerdict
from spear_core.training.material import Anchors
from spear_core.training.neighbours import Neighbours
from spear_core.training.probes import Measures, ProbeKind, Probes
from spear_core.training.round import Learner
from spear_core.training.traces import TrainingTrace
from spear_core.training.trainer import Progress
from spear_core.training.trunk import drop_kept_states

log = logging.getLogger(__name__)
# Older wins that a round draws from. A step takes `replay_wins` of them and the gate asks 64; reading and encoding ten
# thousand would take longer than the round
REPLAY_SAMPLE = 256
MIN_CONSOLIDATED = 2  # corrections that a consolidation needs
PREPARED_AHEAD = 2  # rejected replies whose neighbours are made before the correction is confirmed
# After a disk error the corrections wait and are tried again
DISK_FAULTS = (AdapterUnwritable, StoreUnavailable, OSError)


class RoundRunner:
    """What rounds have in common, and the training of one. Raises RuntimeError without the round lock; `neighbours` needs none."""

    def __init__(self, engine: Engine, lineage: Lineage, live: LiveStatus, on_step: Callable[[Progress], None]) -> None:
        """`on_step` is called after each training step."""
        self._engine = engine
        self._store = engine.store
        self.lineage = lineage
        self._live = live
        self._on_step = on_step
        self._learner: Learner | None = None
        self.held = HeldAnswers(engine)
        self.neighbours = NeighbourService(engine)
        self.apart: list[list[str]] = []  # ids of traces that were refused together and are trained in parts
        self._consolidated = 0  # the version after which a consolidation was last tried

    def start_again(self) -> None:
        """Drop everything that was computed, after a change of the base model or of the store's contents."""
        self.lineage.lock.require()
        self.neighbours.forget()
        drop_kept_states(self._engine.shared_models.training)
        self._engine.scope.forget()  # the same version may be of another content in a restored store
        self._learner, self.held, self.apart = None, HeldAnswers(self._engine), []
        self._consolidated = 0  # another model's versions have the same numbers

    def drop_kept_texts(self) -> None:
        """Drop all texts held in memory except the starter questions, because they may be words of users."""
        self.lineage.lock.require()
        self.neighbours.forget()
        self._engine.scope.forget()
        self.held.forget()
        if self._learner is not None:
            keep = self.held.starter_examples()
            self._learner.forget(keep)
            drop_kept_states(self._engine.shared_models.training, keep)

    def warm(self, until: Callable[[], bool] = lambda: False) -> None:
        """Make the gate's probes and the starter anchors that are missing, so that the next correction need not wait for them.

        Ends early where `until` holds, which is asked every few of them.
        """
        learner, engine = self.ready_learner(), self._engine
        for held in (learner.probes.anchors, learner.anchors):
            for _ in held.warm(engine.shared_models.training, engine.pad_id):
                engine.priority.give_way()
                if until():
                    return

    def judge(self, state: AdapterState) -> tuple[GateVerdict, Measures]:
        """The gate's verdict on an adapter from elsewhere, and its measures. Raises AdapterInvalid where it does not fit."""
        replay = self._replay(self._engine.seed)
        return self.ready_learner().judge(self.lineage.state, state, [training_trace(t) for t in replay])

    def learn(self, round_: Round, claimed: list[Trace], anchors_before_utc: str | None) -> None:
        """Train on what the round has claimed, and promote the adapter or end the round with the reason.

        Args:
            round_: running; it is promoted, discarded, or interrupted where it is to be tried in parts.
            claimed: its traces, oldest first.
            anchors_before_utc: of a round that is trained again after a forgetting: only replies before this time may be
                anchors, so that it comes out as it was.

        Raises:
            TracesWithdrawn: a vote was withdrawn meanwhile; the round is still running.
            TrainingFailed: the numbers broke; the round is still running.
            StoreError, OSError: the result could not be stored.
        """
        self.lineage.lock.require()
        engine, began = self._engine, time.monotonic()
        taught = self._encodable(labels.latest_word(claimed))
        if not any(t.side == "win" for t in taught):
            self._store.finish_round(
                round_.id, "discarded", verdict="Not kept: there is nothing in it that can be learned."
            )
            return
        seed = self.lineage.seed(round_.parent_version, taught)
        style_preferences = self.held.style_preferences(anchors_before_utc)
        replay = self._replay(seed, claimed)
        corrected = [t.prompt[-1]["content"] for t in (*taught, *replay) if t.side == "win"]
        learner = self.learner(seed, style_preferences, anchors_before_utc, corrected)
        self._live.tell(
            "training",
            "Training.",
            card_words.counted(taught, len(replay)),
            max_steps=engine.config.max_steps,
        )
        near = self.neighbours.of(taught, replay)
        wins = [t for t in taught if t.side == "win"]
        # style preferences apply to all answers
        covers = everything if style_preferences else self._scope_with(wins, near, learner)
        result = learner.run_round(
            self.lineage.state,
            [training_trace(t) for t in taught if t.side == "win"],
            [training_trace(t) for t in taught if t.side == "lose"],
            [training_trace(t) for t in replay],
            seed,
            on_step=self._on_step,
            on_check=lambda: self._live.tell(
                "checking", "Checking what was learned.", "Asking again, and asking older questions too."
            ),
            neighbours=near,
            covers=covers,
            before_text=card_words.rejected_reply(wins[-1].prompt, taught),
        )
        standing = {t.id for t in self._store.still_claimed(round_.id)}
        trained = [t for t in taught if t.side == "win" or result.report.lose_loss > 0]
        if not {t.id for t in trained} <= standing:
            raise TracesWithdrawn("a vote was withdrawn during training")
        said_in = tuple(self.held.said_in(style_preferences))
        # neighbours and anchors are made before the round
        learning_seconds = round(time.monotonic() - began, 2)
        figures = dataclasses.replace(
            round_figures(result), style_preferences=said_in, learning_seconds=learning_seconds
        )
        if not result.verdict.passed or result.state is None:
            self._store.finish_round(
                round_.id,
                "interrupted" if self.split(claimed, anchors_before_utc) else "discarded",
                verdict=verdict_words(result.verdict),
                figures=figures,
                proof=card_words.proof_record(result, taught),
                replayed=len(replay),
            )
            return
        waited_since = max(datetime.fromisoformat(t.created_at_utc) for t in claimed)
        seconds_to_live = round((datetime.now(UTC) - waited_since).total_seconds(), 2)
        # trained again after a forgetting: nobody waited for it until now; or the clock was set back
        if anchors_before_utc is not None or seconds_to_live < 0:
            seconds_to_live = learning_seconds
        version = self.lineage.promote(
            round_,
            [t.id for t in taught if t.id in standing],
            result.state,
            dataclasses.replace(figures, seconds_to_live=seconds_to_live),
            verdict=verdict_words(result.verdict),
            proof=card_words.proof_record(result, taught),
            replayed=len(replay),
        )
        log.info("adapter v%d is live after %.1f s", version, seconds_to_live)

    def _scope_with(self, wins: Sequence[Trace], near: dict[str, Neighbours], learner: Learner) -> Covers:
        """Which questions the next adapter will answer. What is known to ask for something else is told apart before.

        Neighbours that turn out to ask for the same are taken out of `near`.
        """
        scope, starters = self._engine.scope, _starter_questions(learner)
        for win in wins:
            of_win = near.get(win.id, Neighbours())
            others = [n.prompt[-1]["content"] for n in (*of_win.probes, *of_win.trained)]
            with suppress(UnknownRecord):  # forgotten meanwhile; the round will notice
                if same := scope.keep_apart(self._engine, win, [*others, *starters]):
                    near[win.id] = of_win.without(same)
        return self._covers(learner, wins)

    def scope_of_merge(self, learner: Learner, questions: ByPeer | None) -> Covers:
        """Which questions a merge of peers' adapters will answer; None: it is meant for everything."""
        if questions is None:
            return everything
        self._engine.scope.read(self._engine, together(questions))
        return self._covers(learner, [], questions)

    def _covers(self, learner: Learner, wins: Sequence[Trace], merged: ByPeer | None = None) -> Covers:
        """Starter questions that were taught here, in these or other words, are taken out of the learner's probes: their
        answers are meant to be others. Those that peers were taught stay: nobody here has confirmed such an answer.
        """
        covers = self._engine.scope.covering(self._engine, wins, merged)
        if isinstance(covers, Coverage):
            probes = learner.probes.marked(covers.own)
            learner.probes = probes.with_probes(
                [p for p in probes.all if p.kind == ProbeKind.RECENT or not p.is_covered]
            )
        return covers

    def split(self, claimed: Sequence[Trace], anchors_before_utc: str | None) -> bool:
        """Queue the traces of a failed round as two rounds, so that one answer does not keep the others from being learned.

        Returns False where there is nothing to divide. A round that is trained again after a forgetting is not divided,
        because it must come out as before.
        """
        parts = labels.halves(claimed) if anchors_before_utc is None else []
        self.apart = parts + self.apart
        return bool(parts)

    def _replay(self, seed: int, claimed: Sequence[Trace] = ()) -> list[Trace]:
        """Older wins to be practised with what the round has claimed, without those that a newer answer contradicts."""
        found = self._store.replay_wins(self._engine.base, REPLAY_SAMPLE, [t.id for t in claimed], seed)
        gone = replaced([*found, *(t for t in claimed if t.side == "win")])
        return [t for t in found if t.id not in gone]

    def _encodable(self, traces: Sequence[Trace]) -> list[Trace]:
        """The traces that fit the model's chat template and context."""
        kept = []
        for trace in traces:
            try:
                self._engine.encoder.trace(training_trace(trace))
            except (SpearError, ValueError) as e:
                log.warning("an answer cannot be learned and is left out: %s", e)
            else:
                kept.append(trace)
        return kept

    def consolidate(self) -> None:
        """Train all corrections together, after each `consolidate_every` rounds."""
        self.lineage.lock.require()
        engine, base = self._engine, self._engine.base
        every = engine.config.consolidate_every
        line = self._store.lineage(base, self.lineage.version)[:every] if every else []
        if not every or len(line) < every or any(a.round_id is None for a in line):
            return
        seed = self.lineage.seed(self.lineage.version)
        replay = self._replay(seed)
        # once for each version, whatever the outcome, and not again where it was undone, also after a restart
        made = {a.parent_version for a in self._store.adapters(base) if a.figures.source == CONSOLIDATED}
        if len(replay) < MIN_CONSOLIDATED or self.lineage.version in (self._consolidated, *made):
            return
        self._consolidated = self.lineage.version
        style = self.held.style_preferences()
        learner = self.learner(seed, style, None, [t.prompt[-1]["content"] for t in replay])
        words = "All your corrections are practised together."
        try:
            with self._live.telling("training", "Practising what was learned.", words):
                result = learner.consolidate(
                    self.lineage.state,
                    [training_trace(t) for t in replay],
                    seed,
                    self._on_step,
                    self.neighbours.of([], replay),
                    everything if style else engine.scope.covering(engine, []),
                )
            if result.state is not None:
                summary = MergeRecord(verdict_words(result.verdict))
                figures = dataclasses.replace(round_figures(result), source=CONSOLIDATED, merge=summary)
                self.lineage.adopt(result.state, figures)
        except (TrainingFailed, *DISK_FAULTS) as e:  # the earlier version keeps serving
            log.error("practising all corrections together failed: %s", e)

    def prepare_neighbours(self) -> None:
        """Make the neighbours of newly rejected replies, and compare them, while the person reads the revision.

        It saves time after that is confirmed.
        """
        if not self._engine.config.neighbours:
            return
        waiting = self._store.traces(
            base=self._engine.base, status="pending", side="lose", limit=PREPARED_AHEAD, newest_first=True
        )
        for trace in waiting:
            shown = self._store.revisions_of(trace.subject_id) if trace.subject_id else []
            done = [m.text for m in shown if m.complete and m.kind == "revision" and m.verdict is None]
            if made := self.neighbours.prepare(trace.prompt, done[-1] if done else ""):
                others = [*made, *_starter_questions(self.ready_learner())]
                self._engine.scope.compare(self._engine, trace.prompt, others)

    def learner(
        self,
        seed: int,
        style_preferences: Sequence[str],
        before_utc: str | None = None,
        corrected: Collection[str] = (),
    ) -> Learner:
        """The learner with the anchors and probes of one round, which leave out the questions in `corrected`."""
        learner, held = self.ready_learner(), self.held
        learner.anchors = learner.anchors.with_examples(held.anchors(seed, style_preferences, before_utc, corrected))
        learner.probes = learner.probes.with_probes(held.probes(style_preferences, before_utc, corrected))
        return learner

    def ready_learner(self) -> Learner:
        """The learner, created at the first call. Needs the round lock."""
        self.lineage.lock.require()
        if self._learner is None:
            engine = self._engine
            started = time.monotonic()
            config = dataclasses.replace(engine.config, max_new_tokens=engine.max_new_tokens)
            anchors = Anchors(self.held.anchors(engine.seed))
            probes = Probes(self.held.probes(), anchors)
            self._learner = Learner(
                engine.shared_models,
                engine.encoder,
                config,
                anchors,
                probes,
                engine.pad_id,
                engine.priority.give_way,
                engine.priority.step_aside,
            )
            log.info(
                "%d anchors and %d probes ready in %.1f s",
                len(anchors.examples),
                len(probes.all),
                time.monotonic() - started,
            )
        return self._learner


def _starter_questions(learner: Learner) -> list[str]:
    """The questions of the learner's probes that nobody here has asked."""
    return [p.question for p in learner.probes.all if p.kind != ProbeKind.RECENT]


def training_trace(t: Trace) -> TrainingTrace:
    """A stored trace as the trainer takes it."""
    return TrainingTrace(
        t.side, t.prompt, t.completion, t.confidence, confirmed=t.side == "win" and t.source != "judged", key=t.id
    )
