"""Learning rounds from the store to the serving model: claim, train, gate, promote, report. One round at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager

from feedback_store import Round, RoundFigures, StoreError, Trace, TracesWithdrawn
from feedback_store.records import RoundEnd
from services.chat.conversation_tree import root_id
from services.engine import Engine
from services.learning import card_words
from services.learning.between_rounds import BetweenRounds
from services.learning.card_status import CardStatus
from services.learning.contradictions import RecentContradictions
from services.learning.figures import measure_summary
from services.learning.forgetting import Forgetting
from services.learning.lineage import Lineage
from services.learning.live_status import LiveStatus
from services.learning.peer_questions import ByPeer
from services.learning.round_lock import RoundLock
from services.learning.round_runner import DISK_FAULTS, RoundRunner
from services.learning.verdict_words import verdict_words
from services.learning.waiting_queue import MOST_TRACES, LearningQueue
from services.priority import Closing
from services.views import AdapterView, ContradictionView, Forgotten, LearnedView, LearningStatus, Phase
from spear_core.errors import SpearError, is_out_of_memory
from spear_core.inference.scope import Covers
from spear_core.models.shared_base import AdapterState
from spear_core.training.process_memory import give_back
from spear_core.training.round import Learner
from spear_core.training.trainer import Progress

log = logging.getLogger(__name__)
PAUSED = "learning_paused"
DISK_REST_SECONDS = 60.0
LONG_STEPS = (
    20  # after each so many steps memory is returned to the system, because the changing shapes fragment the heap
)


class LearningService:
    """Learning rounds and what changes the model. `run_pending` is the job; all other methods may be called from any thread.

    What changes the model waits for the end of a running round (between_rounds.py).
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store
        self._round_lock = RoundLock()
        self._between = BetweenRounds(self._round_lock, self.kick)
        self._contradictions = RecentContradictions(engine)
        self._live = LiveStatus()
        self._note = ""  # what failed in the last round, for the card
        self._rests_until = 0.0  # monotonic time in seconds until which nothing is tried, after a disk error
        self.most_traces = MOST_TRACES  # that one round takes
        self._left_open = False  # the end of a round could not be stored
        self._features_dropped = False  # those of the taught questions, which a reply needs
        self._kicked = False  # something may have come to learn since a round was last claimed
        self.on_kick: Callable[[], object] = lambda: None  # set by the scheduler; starts a round now
        released = self._store.release_interrupted(engine.base)
        if released:
            log.info("%d interrupted round(s) released; their corrections will be learned again", released)
        self.lineage = Lineage(engine, self._round_lock)
        self._runner = RoundRunner(engine, self.lineage, self._live, lambda progress: self._on_step(progress))
        self._neighbours = self._runner.neighbours
        self._forgetting = Forgetting(engine, self.lineage)
        self._queue = LearningQueue(engine)
        self._card = CardStatus(engine, self.lineage, self._forgetting, self._live, self._queue, self._contradictions)
        with self._round_lock:
            self.lineage.delete_unknown_files()
            self.lineage.serve_active()

    # -- what the screen asks --------------------------------------------------------------------------------

    def status(
        self,
        may_quote: Callable[[Round], bool] = lambda last: True,
        may_settle: Callable[[ContradictionView], bool] = lambda found: True,
    ) -> LearningStatus:
        """The state of the learning, for the status card.

        Args:
            may_quote: whether the hints behind the style preferences of a round may be quoted.
            may_settle: whether a contradiction may be shown.
        """
        rests = time.monotonic() < self._rests_until
        note = self._note or self.lineage.complaint
        return self._card.now(paused=self.paused, note=note, rests=rests, may_quote=may_quote, may_settle=may_settle)

    def adopted(self, last: Round) -> str:
        """A sentence on the style preferences of a round, without those forgotten or deleted since."""
        return self._card.adopted(last)

    @property
    def paused(self) -> bool:
        """Whether learning is paused."""
        return bool(self._store.setting(PAUSED, False))

    def pause(self) -> None:
        """Start no further round. A running one continues to its end."""
        self._store.set_setting(PAUSED, True)

    def resume(self) -> None:
        """Learn again, also before the rest after a disk error has passed."""
        self._store.set_setting(PAUSED, False)
        self._rests_until = 0.0
        self.kick()

    def kick(self) -> None:
        """Feedback was given or taken back: start a round now if there is something to learn, not at the next interval."""
        self._contradictions.look_again()
        self._kicked = True
        self.on_kick()

    def adapters(self, limit: int | None = None) -> list[AdapterView]:
        """All versions of this base model, or the `limit` newest, newest first."""
        return self.lineage.views(limit)

    def learned(self, limit: int = 200) -> list[LearnedView]:
        """Feedback of all users with what became of it, newest first."""
        base = self._engine.base
        made = {adapter.round_id: adapter.version for adapter in self._store.adapters(base)}
        return card_words.learned_views(self._store.latest_feedback(base, limit), limit, made)

    @property
    def sees_others(self) -> bool:
        """Whether `learned_by_others` has entries: not here, where `learned` lists the feedback of all users."""
        return False

    def learned_by_others(self, limit: int = 200) -> list[LearnedView]:
        """Nothing: `learned` lists the feedback of all users."""
        return []

    def contradictions(self) -> list[ContradictionView]:
        """Recent corrections that contradict an earlier one that was not withdrawn, newest first."""
        return self._contradictions.found()

    def settle(self, keep_id: str, drop_id: str) -> None:
        """Keep one of two contradicting corrections; the other is withdrawn.

        If the withdrawn one is the newer and was trained, it is forgotten, so that the earlier answer is given again.

        Args:
            keep_id: the reply whose correction is kept.
            drop_id: the reply whose correction is withdrawn.

        Raises:
            UnknownRecord: no such reply.
            SpearError: a round did not end in time.
        """
        kept, dropped = (
            self._store.traces(base=self._engine.base, subject_id=i, side="win") for i in (keep_id, drop_id)
        )
        is_newer = bool(kept and dropped) and dropped[-1].seq > kept[-1].seq
        if is_newer and any(t.status == "trained" for t in dropped):
            self.forget([drop_id])
        else:
            self._store.set_vote(drop_id, 0)
            self._store.withdraw_traces(drop_id)
        self.kick()

    # -- what changes the model ------------------------------------------------------------------------------

    def roll_back(self) -> int:
        """Serve the previous adapter again; undone corrections are trained again only on request. Returns its version.

        Raises SpearError where there is nothing to undo, a round does not end in time, or it made another version meanwhile.
        """
        seen = self.lineage.version
        with self.between_rounds():
            self._require_serving(seen)
            return self.lineage.roll_back()

    def restore(self, version: int) -> int:
        """Serve a version that was undone again, with its corrections. Returns its version.

        Raises SpearError where it was not undone or is deleted, a round does not end in time, or it made another version
        meanwhile, UnknownRecord.
        """
        seen = self.lineage.version
        with self.between_rounds():
            self._require_serving(seen)
            return self.lineage.restore(version)

    def _require_serving(self, seen: int) -> None:
        """Raises SpearError where another version serves than the one that a person saw: they did not mean to undo that."""
        if (now := self.lineage.version) != seen:
            name = f"v{now}" if now else "The base model"
            raise SpearError(f"{name} has come into use meanwhile, so nothing was changed. Look at it and try again.")

    def pin(self, version: int, pinned: bool = True) -> None:
        """Pin a version, so that it is never pruned, or unpin it. Raises UnknownRecord."""
        self.lineage.pin(version, pinned)

    def forget(self, message_ids: Collection[str]) -> Forgotten:
        """Erase all feedback about some replies and rebuild the adapter without it. Returns the effect on the model.

        The newest version trained before the feedback serves at once. Later rounds are trained again without it, and the
        result is bit-equal to never having had it. Adapters of other base models are rebuilt when those serve again.
        Updates that peers have pulled cannot be called back.

        Raises UnknownRecord, and SpearError where a round does not end in time.
        """
        subjects = {root_id(self._store.message(m)) for m in message_ids}
        with self.between_rounds():
            done = self._forgetting.forget(subjects)
            self._runner.drop_kept_texts()
            self._features_dropped = True
        self.kick()
        return done

    def exchange(self, change: Callable[[], None]) -> None:
        """Call `change`, which replaces the store's contents and the adapter files, between two rounds; then serve them.

        Raises SpearError where a round does not end in time, and what `change` raises.
        """
        with self.between_rounds():
            try:
                change()
            finally:
                self._begin_anew()
        self.kick()

    def prepare(self) -> None:
        """Make all that the first correction would wait for: what `prepare_replies` makes, probes and starter anchors."""
        self.prepare_replies()
        with self._round_lock:
            self._runner.warm()

    def prepare_replies(self) -> None:
        """Make what the first reply would wait for where something was taught: the features that compare questions."""
        self._engine.scope.prepare(self._engine)
        with self._round_lock:
            self._engine.scope.covering(self._engine, [])

    def run_pending(self) -> int:
        """Run rounds until nothing waits, learning is paused, or somebody wants to change the model `between_rounds`.

        After a disk error nothing is tried for DISK_REST_SECONDS.

        Returns:
            The number of rounds.

        Raises:
            StoreError: the store cannot be read or written.
            Closing: the app is being closed.
        """
        done = 0
        with self._round_lock:
            self._between.begin_job()
            if time.monotonic() < self._rests_until:
                return 0
            if self._left_open:
                self._store.release_interrupted(self._engine.base)
                self.lineage.serve_active()
                self._left_open = False
            if self._features_dropped:  # or the next reply would make them
                self._features_dropped = False
                self._engine.scope.covering(self._engine, [])
            while not self.paused and time.monotonic() >= self._rests_until:
                if self._between.is_wanted:
                    self._between.stand_back()
                    break
                self._kicked = False
                claimed = self._claim()
                if not claimed:
                    break
                self._note = self.lineage.complaint = ""
                self._run(*claimed)
                done += 1
                # after each round, because a busy instance never gets to the last one
                self.lineage.prune()
                self._give_back_memory()
            if not self._between.is_wanted and not self.paused and time.monotonic() >= self._rests_until:
                self._runner.prepare_neighbours()
                self._runner.consolidate()
                if self._store.count_pending(self._engine.base)[1]:  # rejected replies: a correction may follow
                    self._runner.warm(until=lambda: self._kicked or self._between.is_wanted)
        return done

    def _claim(self) -> tuple[Round, list[Trace], str | None] | None:
        """Claim the next round: first those trained again after a forgetting, then split rounds, then new traces."""
        base, version = self._engine.base, self.lineage.version
        for item in self._forgetting.waiting():
            claimed = self._store.claim_round(base, version, only=item["traces"])
            if claimed:
                return (*claimed, item["anchors_before_utc"])
            self._forgetting.rebuilt()
        while self._runner.apart:
            if claimed := self._store.claim_round(base, version, only=self._runner.apart.pop(0)):
                return (*claimed, None)
        claimed = self._store.claim_round(base, version, most=self.most_traces)
        return (*claimed, None) if claimed else None

    def change_model(self, change: Callable[[], None]) -> None:
        """Call `change`, which puts another base model into the engine, between two rounds; then serve its adapter.

        Traces of the earlier model wait until it serves again. Raises SpearError where a round does not end in time, and
        what `change` raises.
        """
        with self.between_rounds():
            change()
            self.lineage.delete_unknown_files()
            self._begin_anew()
        self.kick()

    def _begin_anew(self) -> None:
        self._runner.start_again()
        self._features_dropped = True
        self._engine.batching.prefixes.clear()  # their conversations may have been erased
        self._store.release_interrupted(self._engine.base)
        self._note = ""
        self.lineage.serve_active()

    def try_adapter(self, state: AdapterState, source: str) -> int:
        """Serve an adapter from elsewhere if it passes the gate. Returns its version.

        Args:
            state: its tensors.
            source: where it came from, for the list of versions.

        Raises:
            AdapterInvalid: it does not fit the model.
            SpearError: the gate refused it, or a round did not end in time.
        """
        with self.between_rounds():
            verdict, measured = self._runner.judge(state)
            if not verdict.passed:
                raise SpearError(f"The adapter was not imported. {verdict_words(verdict)}")
            return self.lineage.adopt(state, RoundFigures(source=source, after=measure_summary(measured)))

    def between_rounds(self) -> AbstractContextManager[None]:
        """Hold the round lock, so that nothing else changes the model. Raises RoundUnderWay where a round does not end in time."""
        return self._between.hold()

    # -- one round -------------------------------------------------------------------------------------------

    def _run(self, round_: Round, claimed: list[Trace], anchors_before_utc: str | None) -> None:
        try:
            self._queue.begin(is_counted=anchors_before_utc is not None)
            self._live.tell("queued", "A correction is queued.", "Preparing the training.")
            self._learn(round_, claimed, anchors_before_utc)
        except TracesWithdrawn:
            # the withdrawn trace must not be trained; the others are claimed again
            self._end(round_, "interrupted", "A vote was withdrawn during training; the rest is trained again.")
        except Closing:
            self._end(round_, "interrupted", "The app was closed during training; it is trained again.")
            raise
        except DISK_FAULTS as e:
            log.error("round %d could not be stored: %s", round_.id, e)
            self._rests_until = time.monotonic() + DISK_REST_SECONDS
            self._note = f"{str(e).rstrip('.')}. The correction is kept and tried again in a minute."
            self._end(round_, "interrupted", self._note)
        except Exception as e:  # any error: the traces of a round that never ends would never be learned
            log.exception("round %d failed", round_.id)
            reason = (
                "there is not enough memory" if is_out_of_memory(e) else f"{e}".partition("\n")[0] or type(e).__name__
            )
            self._note = f"Nothing was changed; the previous adapter keeps serving. ({reason})"
            status: RoundEnd = "interrupted" if self._runner.split(claimed, anchors_before_utc) else "discarded"
            self._end(round_, status, f"Not kept: {self._note}")
        finally:
            self._queue.end()
            self._live.clear()
        if anchors_before_utc is not None and self._store.round(round_.id).status in ("promoted", "discarded"):
            self._forgetting.rebuilt()

    def _learn(self, round_: Round, claimed: list[Trace], anchors_before_utc: str | None) -> None:
        self._runner.learn(round_, claimed, anchors_before_utc)

    def _end(self, round_: Round, status: RoundEnd, verdict: str) -> None:
        """End a failed round. If that cannot be stored, the next `run_pending` releases it first."""
        try:
            self._store.finish_round(round_.id, status, verdict=verdict)
        except StoreError as e:
            log.error("the end of round %d could not be written: %s", round_.id, e)
            self._left_open = True

    # -- state -----------------------------------------------------------------------------------------------

    def learner(self, seed: int, style_preferences: Sequence[str]) -> Learner:
        """The learner with the anchors and probes of a round with this seed, for merges. Needs the round lock."""
        return self._runner.learner(seed, style_preferences)

    def scope_of_merge(self, learner: Learner, questions: ByPeer | None) -> Covers:
        """Which questions a merge will answer. `questions`: what peers were taught; None: it is meant for everything."""
        return self._runner.scope_of_merge(learner, questions)

    def style_preferences(self) -> list[str]:
        """The style preferences in force."""
        return self._runner.held.style_preferences()

    def telling(self, phase: Phase, headline: str, detail: str) -> AbstractContextManager[None]:
        """Show a phase on the card inside the `with` block."""
        return self._live.telling(phase, headline, detail)

    def _on_step(self, progress: Progress) -> None:
        self._live.count(progress)
        if progress.step % LONG_STEPS == 0:
            self._give_back_memory()

    def _give_back_memory(self) -> None:
        self._engine.priority.when_quiet(give_back)  # takes 20 to 30 ms, in which allocations of other threads wait
