"""Learning rounds from the store to the serving model: claim, train, gate, promote, report. One round at a time."""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from feedback_store import Round, StoreError, StoreUnavailable, Trace, TracesWithdrawn, UnknownRecord
from feedback_store.records import RoundEnd
from services.chat.conversation_tree import root_id
from services.engine import Engine
from services.learning import card, labels
from services.learning.anchors import HeldAnswers
from services.learning.contradictions import RecentContradictions
from services.learning.forgetting import Forgetting
from services.learning.lineage import Lineage
from services.learning.live_status import LiveStatus
from services.learning.neighbours import NeighbourService
from services.learning.queue import LearningQueue
from services.learning.scope import CONSOLIDATED
from services.learning.verdict_words import verdict_words
from services.priority import Closing
from services.views import AdapterView, ContradictionView, Forgotten, LearnedView, LearningStatus, Phase
from spear_core.errors import AdapterUnwritable, SpearError, TrainingFailed, is_out_of_memory
from spear_core.models.shared_base import AdapterState
from spear_core.training import traces as core
from spear_core.training.material import Anchors
from spear_core.training.memory import give_back
from spear_core.training.neighbours import Neighbours
from spear_core.training.probes import Kind, Probes
from spear_core.training.round import Learner
from spear_core.training.scoring import drop_kept_states
from spear_core.training.trainer import Progress

log = logging.getLogger(__name__)
PAUSED = "learning_paused"
ROUND_WAIT_SECONDS = 60.0
# Older wins that a round draws from: a step takes `replay_wins` of them and the gate asks 64 again, and reading and
# encoding ten thousand would take longer than the round
REPLAY_SAMPLE = 256
# A full or failing disk ends a round too, but says nothing against the corrections: they wait for a better moment
DISK_FAULTS = (AdapterUnwritable, StoreUnavailable, OSError)
DISK_REST_SECONDS = 60.0
# That one round takes: it asks all its wins again after every few steps, so a burst of a thousand thumbs-up would keep
# the next correction waiting for the better part of an hour
MOST_TRACES = 64
MIN_CONSOLIDATED = 2  # corrections that are worth practising together
PREPARED_AHEAD = 2  # rejected replies whose neighbours are made before their correction is confirmed
LONG_STEPS = 20  # a round of so many gives memory back on the way too: its rows' shapes leave holes in the heap


class RoundUnderWay(SpearError):
    """What was asked has to wait for a round's end."""


class LearningService:
    """`run_pending` is the job; everything else is quick and may be called from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store
        self._round_lock = threading.Lock()
        self._wanted = 0  # by how many that wait for the end of the round under way
        self._stood_back = False  # for one of them, with something left to learn
        self._wanted_lock = threading.Lock()
        self._learner: Learner | None = None
        self._held = HeldAnswers(engine)
        self._neighbours = NeighbourService(engine)
        self._contradictions = RecentContradictions(engine)
        self._consolidated = 0  # the version after which all corrections were last practised together
        self._live = LiveStatus()
        self._note = ""  # what went wrong at start or in the last round, for the card
        self._rests_until = 0.0  # by the monotonic clock, after a fault of the disk
        self._left_open = False  # a round whose end could not be written
        self._apart: list[list[str]] = []  # ids of traces that were refused together and are to be tried in parts
        self.on_kick: Callable[[], object] = lambda: None  # set by jobs: start a round now
        released = self._store.release_interrupted(engine.base)
        if released:
            log.info("%d interrupted round(s) released; their corrections will be learned again", released)
        self.lineage = Lineage(engine)
        self._forgetting = Forgetting(engine, self.lineage)
        self._queue = LearningQueue(engine)
        self.lineage.delete_unknown_files()
        self.lineage.serve_active()
        self._note = self.lineage.complaint

    # -- what the screen asks --------------------------------------------------------------------------------

    def status(self, may_quote: Callable[[Round], bool] = lambda last: True) -> LearningStatus:
        """`may_quote`: whether the hints may be quoted that made the style preferences which a round adopted."""
        live = self._live.now
        base = self._engine.base
        version = self._store.active_version(base)
        wins, loses = self._store.count_pending(base)
        last = self._store.last_round(base)
        checked, changed = card.checked_of(last)
        common: dict[str, Any] = {
            "adapter_version": version,
            "paused": self.paused,
            "pending_wins": wins,
            "pending_loses": loses,
            "can_roll_back": version > 0,
            "proof": card.proof_of(last, version),
            "checked": checked,
            "changed": changed,
            "contradiction": next(iter(self.contradictions()), None),
            "seconds": last.figures.get("seconds_to_live") if last else None,
            "undone": self.lineage.undone(),
            "queue": self._queue.waiting() if wins or live or (last and last.status == "running") else (),
        }
        if not self.paused:
            rounds_waiting = math.ceil(wins / MOST_TRACES) + len(self._forgetting.waiting())
            common["seconds_left"] = self._queue.seconds_left(last, rounds_waiting)
        if live:
            common["progress"] = self._queue.progress(last, live.step, live.max_steps)
            return LearningStatus(**dataclasses.asdict(live), **common)
        rests = time.monotonic() < self._rests_until
        phase, headline, detail = card.resting(
            last,
            version,
            wins,
            loses,
            len(self._forgetting.waiting()),
            paused=self.paused,
            note=self._note,
            rests=rests,
            wished=self.wished(last) if last and may_quote(last) else "",
            undone=common["undone"],
        )
        return LearningStatus(phase, headline, detail, **common)

    def wished(self, last: Round) -> str:
        """The style preferences that a round adopted, in a sentence, without those forgotten or deleted since."""
        hints = []
        for message_id in last.figures.get("wishes", []):
            with suppress(UnknownRecord):
                hints.append(self._store.message(message_id).hint or "")
        return card.wished([hint.strip() for hint in hints if hint.strip()])

    @property
    def paused(self) -> bool:
        return bool(self._store.setting(PAUSED, False))

    def pause(self) -> None:
        """Start no further round; one under way ends."""
        self._store.set_setting(PAUSED, True)

    def resume(self) -> None:
        self._store.set_setting(PAUSED, False)
        self._rests_until = 0.0
        self.kick()

    def kick(self) -> None:
        """Something may be learnable: start a round now rather than at the next interval."""
        self.on_kick()

    def adapters(self) -> list[AdapterView]:
        """All versions of this base model, newest first."""
        return self.lineage.views()

    def learned(self, limit: int = 200) -> list[LearnedView]:
        """What people said about replies and what became of it, newest first."""
        base = self._engine.base
        made = {adapter.round_id: adapter.version for adapter in self._store.adapters(base)}
        return card.learned_views(self._store.latest_feedback(base, limit), limit, made)

    @property
    def sees_others(self) -> bool:
        """Whether there is anybody's feedback beside one's own to be listed: here all of it is in `learned`."""
        return False

    def learned_by_others(self, limit: int = 200) -> list[LearnedView]:
        return []

    def contradictions(self) -> list[ContradictionView]:
        """Recent corrections that contradict an earlier one that still stands, newest first."""
        return self._contradictions.found()

    def settle(self, keep_id: str, drop_id: str) -> None:
        """Of two corrections that contradict each other, keep one: the other is not trained any more.

        A newer one that was trained already is forgotten, so that the earlier answer comes back. Raises UnknownRecord,
        and SpearError where a round does not end in time.
        """
        kept, dropped = (
            self._store.traces(base=self._engine.base, subject_id=i, side="win") for i in (keep_id, drop_id)
        )
        is_newer = bool(kept and dropped) and dropped[-1].created_at_utc > kept[-1].created_at_utc
        if is_newer and any(t.status == "trained" for t in dropped):
            self.forget([drop_id])
        else:
            self._store.set_vote(drop_id, 0)
            self._store.withdraw_traces(drop_id)
        self._contradictions.look_again()
        self.kick()

    # -- what changes the model ------------------------------------------------------------------------------

    def roll_back(self) -> int:
        """Serve the previous adapter again; the undone corrections train again only if asked. Returns its version.

        Raises SpearError where there is nothing to undo, or a round does not end in time.
        """
        with self.between_rounds():
            return self.lineage.roll_back()

    def restore(self, version: int) -> int:
        """Serve a version again that was undone, with its corrections. Returns its version.

        Raises SpearError where it was not undone or is deleted, or a round does not end in time, UnknownRecord.
        """
        with self.between_rounds():
            return self.lineage.restore(version)

    def pin(self, version: int, pinned: bool = True) -> None:
        """Keep a version from being pruned, or no longer."""
        self.lineage.pin(version, pinned)

    def forget(self, message_ids: Collection[str]) -> Forgotten:
        """Erase all feedback about some replies and rebuild without it. Returns what that did to the model.

        The newest version that never saw the feedback serves at once; the rounds after it are trained again without
        it, and the result is bit-equal to never having had it. Other base models that were taught it are rebuilt when
        they serve again, and do not count. What peers already pulled cannot be called back.
        """
        subjects = {root_id(self._store.message(m)) for m in message_ids}
        with self.between_rounds():
            done = self._forgetting.forget(subjects)
            self._drop_kept_texts()
        self.kick()
        return done

    def _drop_kept_texts(self) -> None:
        """Drop all texts kept in memory except the starter questions: they may hold words of any user."""
        self._neighbours.forget()
        self._engine.scope.forget()
        if self._learner is not None:
            self._learner.wordings.forget()
            keep = self._held.starter_examples()
            self._learner.anchors.forget(keep)
            drop_kept_states(self._engine.shared_models.training, keep)

    def exchange(self, change: Callable[[], None]) -> None:
        """Between two rounds, let `change` replace what is stored and the adapters' files; then serve what is there.

        Raises SpearError where a round does not end in time, and what `change` raises.
        """
        with self.between_rounds():
            try:
                change()
            finally:
                self._begin_anew()
        self.kick()

    def prepare(self) -> None:
        """Make the gate's probes and the starter anchors, so that the first correction need not wait for them."""
        self._engine.scope.prepare(self._engine)
        with self._round_lock:
            learner = self._ready_learner()
            for held in (learner.probes.anchors, learner.anchors):
                held.warm(self._engine.shared_models.training, self._engine.pad_id, self._engine.priority.give_way)
            self._engine.scope.covering(self._engine, [])  # fits the features that questions are compared by

    def run_pending(self) -> int:
        """Learn everything that waits, round after round. Returns how many rounds were run.

        What is to happen `between_rounds` comes before the next round. After a fault of the disk nothing is tried for
        DISK_REST_SECONDS. Raises StoreError where the store refuses, Closing in the middle of a round when the app is
        closed.
        """
        done = 0
        with self._round_lock:
            self._stood_back = False
            if time.monotonic() < self._rests_until:
                return 0
            if self._left_open:
                self._store.release_interrupted(self._engine.base)
                self.lineage.serve_active()
                self._left_open = False
            while not self.paused and time.monotonic() >= self._rests_until:
                if self._wanted:
                    self._stood_back = True
                    break
                claimed = self._claim()
                if not claimed:
                    break
                self._note = ""
                self._run(*claimed)
                done += 1
                # After each: where people go on correcting, the last one never comes
                self.lineage.prune()
                self._give_back_memory()
            if not self._wanted and not self.paused and time.monotonic() >= self._rests_until:
                self._prepare_neighbours()
                self._consolidate()
        return done

    def _consolidate(self) -> None:
        """After every `consolidate_every` rounds practise all corrections together, when nothing else waits."""
        engine, base = self._engine, self._engine.base
        every = engine.config.consolidate_every
        line = self._store.lineage(base, self.lineage.version)[:every] if every else []
        if not every or len(line) < every or any(a.round_id is None for a in line):
            return
        seed = self.lineage.seed(self.lineage.version)
        replay = self._store.replay_wins(base, REPLAY_SAMPLE, [], seed)
        if len(replay) < MIN_CONSOLIDATED or self.lineage.version == self._consolidated:
            return
        self._consolidated = self.lineage.version  # whatever comes of it, once a version is enough
        style = self._held.style_preferences()
        learner = self.learner(seed, style, None, [t.prompt[-1]["content"] for t in replay])
        words = "All your corrections are practised together."
        try:
            with self._live.telling("training", "Practising what was learned.", words):
                result = learner.consolidate(
                    self.lineage.state,
                    [core_trace(t) for t in replay],
                    seed,
                    self._on_step,
                    self._neighbours.of([], replay),
                    (lambda question: True) if style else engine.scope.covering(engine, []),
                )
            if result.state is not None:
                figures = {
                    **result.figures(),
                    "source": CONSOLIDATED,
                    "merge": {"words": verdict_words(result.verdict)},
                }
                self.lineage.adopt(result.state, figures)
        except (TrainingFailed, *DISK_FAULTS) as e:  # nothing was lost: the version before it goes on serving
            log.error("practising all corrections together failed: %s", e)

    def _prepare_neighbours(self) -> None:
        """Make the neighbours of replies just rejected while the person reads the revision, so that its confirmation need not wait."""
        if not self._engine.config.neighbours:
            return
        waiting = self._store.traces(
            base=self._engine.base, status="pending", side="lose", limit=PREPARED_AHEAD, newest_first=True
        )
        for trace in waiting:
            shown = self._store.revisions_of(trace.subject_id) if trace.subject_id else []
            done = [m.text for m in shown if m.complete and m.kind == "revision" and m.verdict is None]
            self._neighbours.prepare(trace.prompt, done[-1] if done else "")

    def _claim(self) -> tuple[Round, list[Trace], str | None] | None:
        """The next round: first those to be trained again after a forgetting, in their old order, then what waits."""
        base, version = self._engine.base, self.lineage.version
        for item in self._forgetting.waiting():
            claimed = self._store.claim_round(base, version, only=item["traces"])
            if claimed:
                return (*claimed, item["anchors_before_utc"])
            self._forgetting.rebuilt()
        while self._apart:
            if claimed := self._store.claim_round(base, version, only=self._apart.pop(0)):
                return (*claimed, None)
        claimed = self._store.claim_round(base, version, most=MOST_TRACES)
        return (*claimed, None) if claimed else None

    def change_model(self, change: Callable[[], None]) -> None:
        """Between two rounds, let `change` put another base model into the engine, and serve that model's adapter.

        What waits for the earlier model stays and is learned when it is back. Raises SpearError where a round does not
        end in time.
        """
        with self.between_rounds():
            change()
            self.lineage.delete_unknown_files()
            self._begin_anew()
        self.kick()

    def _begin_anew(self) -> None:
        self._neighbours.forget()
        drop_kept_states(self._engine.shared_models.training)
        self._learner, self._held, self._apart = None, HeldAnswers(self._engine), []
        self._engine.batching.prefixes.clear()  # of conversations that may be erased by now
        self._store.release_interrupted(self._engine.base)
        self.lineage.complaint = ""
        self.lineage.serve_active()
        self._note = self.lineage.complaint

    def try_adapter(self, state: AdapterState, figures: dict[str, Any]) -> int:
        """Let an adapter from elsewhere serve if it passes the gate: nothing the person confirmed may be lost.

        Returns its version. Raises AdapterInvalid where it does not fit the model, SpearError where it is refused.
        """
        with self.between_rounds():
            learner, base = self._ready_learner(), self._engine.base
            replay = self._store.replay_wins(base, REPLAY_SAMPLE, [], self._engine.seed)
            verdict, measured = learner.judge(self.lineage.state, state, [core_trace(t) for t in replay])
            if not verdict.passed:
                raise SpearError(f"The adapter was not taken over. {verdict_words(verdict)}")
            return self.lineage.adopt(state, {**figures, "after": measured.figures()})

    @contextmanager
    def between_rounds(self) -> Iterator[None]:
        """Nothing else changes the model inside. Raises SpearError where a round does not end in time."""
        with self._wanted_lock:
            self._wanted += 1
        try:
            is_free = self._round_lock.acquire(timeout=ROUND_WAIT_SECONDS)
        finally:
            with self._wanted_lock:
                self._wanted -= 1
        if not is_free:
            raise RoundUnderWay("A correction is being learned right now; try again when it is done.")
        try:
            yield
        finally:
            stood_back = self._stood_back
            self._round_lock.release()
            if stood_back:
                self.kick()

    # -- one round -------------------------------------------------------------------------------------------

    def _run(self, round_: Round, claimed: list[Trace], anchors_before_utc: str | None) -> None:
        try:
            self._queue.begin()
            self._live.tell("queued", "A correction is queued.", "Preparing the training.")
            self._learn(round_, claimed, anchors_before_utc)
        except TracesWithdrawn:
            # what was taken back must not go live; the rest is trained again
            self._end(round_, "interrupted", "A vote was withdrawn during training; the rest is trained again.")
        except Closing:
            self._end(round_, "interrupted", "The app was closed during training; it is trained again.")
            raise
        except DISK_FAULTS as e:
            log.error("round %d could not be stored: %s", round_.id, e)
            self._rests_until = time.monotonic() + DISK_REST_SECONDS
            self._note = f"{str(e).rstrip('.')}. The correction is kept and tried again in a minute."
            self._end(round_, "interrupted", self._note)
        except Exception as e:  # whatever it was: claimed traces of a round that never ends would never be learned
            log.exception("round %d failed", round_.id)
            reason = (
                "there is not enough memory" if is_out_of_memory(e) else f"{e}".partition("\n")[0] or type(e).__name__
            )
            self._note = f"Nothing was changed; the previous adapter keeps serving. ({reason})"
            status: RoundEnd = "interrupted" if self._split(claimed, anchors_before_utc) else "discarded"
            self._end(round_, status, f"Not kept: {self._note}")
        finally:
            self._queue.end()
            self._live.clear()
        if anchors_before_utc is not None and self._store.round(round_.id).status in ("promoted", "discarded"):
            self._forgetting.rebuilt()

    def _end(self, round_: Round, status: RoundEnd, verdict: str) -> None:
        """End a round that failed; where even that cannot be written, the next `run_pending` releases it first."""
        try:
            self._store.finish_round(round_.id, status, verdict=verdict)
        except StoreError as e:
            log.error("the end of round %d could not be written: %s", round_.id, e)
            self._left_open = True

    def _learn(self, round_: Round, claimed: list[Trace], anchors_before_utc: str | None) -> None:
        engine, base = self._engine, self._engine.base
        taught = self._encodable(labels.latest_word(claimed))
        if not any(t.side == "win" for t in taught):
            self._store.finish_round(
                round_.id, "discarded", verdict="Not kept: there is nothing in it that can be learned."
            )
            return
        seed = self.lineage.seed(round_.parent_version, taught)
        style_preferences = self._held.style_preferences(anchors_before_utc)
        replay = self._store.replay_wins(base, REPLAY_SAMPLE, [t.id for t in claimed], seed)
        corrected = [t.prompt[-1]["content"] for t in (*taught, *replay) if t.side == "win"]
        learner = self.learner(seed, style_preferences, anchors_before_utc, corrected)
        self._live.tell(
            "training",
            "Training.",
            card.counted(taught, len(replay)),
            max_steps=engine.config.max_steps,
        )
        near = self._neighbours.of(taught, replay)
        wins = [t for t in taught if t.side == "win"]
        # a preference of style is meant for every answer
        covers = (lambda question: True) if style_preferences else self._scope_with(wins, near, learner)
        result = learner.run_round(
            self.lineage.state,
            [core_trace(t) for t in taught if t.side == "win"],
            [core_trace(t) for t in taught if t.side == "lose"],
            [core_trace(t) for t in replay],
            seed,
            on_step=self._on_step,
            on_check=lambda: self._live.tell(
                "checking", "Checking what was learned.", "Asking again, and asking older questions too."
            ),
            neighbours=near,
            covers=covers,
        )
        standing = {t.id for t in self._store.still_claimed(round_.id)}
        trained = [t for t in taught if t.side == "win" or result.report.lose_loss > 0]
        if not {t.id for t in trained} <= standing:
            raise TracesWithdrawn("a vote was withdrawn during training")
        figures = {**result.figures(), "wishes": self._held.said_in(style_preferences)}
        if not result.verdict.passed or result.state is None:
            self._store.finish_round(
                round_.id,
                "interrupted" if self._split(claimed, anchors_before_utc) else "discarded",
                verdict=verdict_words(result.verdict),
                figures=figures,
                proof=card.proof_record(result, taught),
                replayed=len(replay),
            )
            return
        waited_since = max(datetime.fromisoformat(t.created_at_utc) for t in claimed)
        figures["seconds_to_live"] = round((datetime.now(UTC) - waited_since).total_seconds(), 2)
        version = self.lineage.promote(
            round_,
            [t.id for t in taught if t.id in standing],
            result.state,
            figures,
            verdict=verdict_words(result.verdict),
            proof=card.proof_record(result, taught),
            replayed=len(replay),
        )
        log.info("adapter v%d is live after %.1f s", version, figures["seconds_to_live"])

    def _scope_with(
        self, wins: Sequence[Trace], near: dict[str, Neighbours], learner: Learner
    ) -> Callable[[str], bool]:
        """Which questions the next adapter will answer. What is known to ask for something else is told apart before.

        Questions that turn out to ask for the same are taken out of `near` and of the learner's probes.
        """
        scope, starters = self._engine.scope, [p.question for p in learner.probes.all if p.kind != Kind.RECENT]
        for win in wins:
            of_win = near.get(win.id, Neighbours())
            others = [n.prompt[-1]["content"] for n in (*of_win.probes, *of_win.trained)]
            with suppress(UnknownRecord):  # forgotten meanwhile; the round will notice
                if same := scope.keep_apart(self._engine, win, [*others, *starters]):
                    near[win.id] = of_win.without(same)
                    learner.probes = learner.probes.with_probes(
                        [p for p in learner.probes.all if p.kind == Kind.RECENT or p.question not in same]
                    )
        return scope.covering(self._engine, wins)

    def _split(self, claimed: Sequence[Trace], anchors_before_utc: str | None) -> bool:
        """Have a round that failed tried again in two parts: one answer that cannot be learned must not cost the others.

        False where there is nothing to divide. A round that is trained again after a forgetting stays whole: it is to
        come out as it was.
        """
        parts = labels.halves(claimed) if anchors_before_utc is None else []
        self._apart = parts + self._apart
        return bool(parts)

    def _encodable(self, traces: Sequence[Trace]) -> list[Trace]:
        """Without those that the model's chat template or context has no room for."""
        kept = []
        for trace in traces:
            try:
                self._engine.encoder.trace(core_trace(trace))
            except (SpearError, ValueError) as e:
                log.warning("an answer cannot be learned and is left out: %s", e)
            else:
                kept.append(trace)
        return kept

    # -- state -----------------------------------------------------------------------------------------------

    def learner(
        self,
        seed: int,
        style_preferences: Sequence[str],
        before_utc: str | None = None,
        corrected: Collection[str] = (),
    ) -> Learner:
        """The learner with the anchors and probes of one round, in which these questions are `corrected`."""
        learner, held = self._ready_learner(), self._held
        learner.anchors = learner.anchors.with_examples(held.anchors(seed, style_preferences, before_utc, corrected))
        learner.probes = learner.probes.with_probes(held.probes(style_preferences, before_utc, corrected))
        return learner

    def style_preferences(self) -> list[str]:
        """The style preferences in force."""
        return self._held.style_preferences()

    def telling(self, phase: Phase, headline: str, detail: str) -> AbstractContextManager[None]:
        """Show a phase on the card inside, and nothing afterwards."""
        return self._live.telling(phase, headline, detail)

    def _ready_learner(self) -> Learner:
        if self._learner is None:
            engine = self._engine
            started = time.monotonic()
            config = dataclasses.replace(engine.config, max_new_tokens=engine.max_new_tokens)
            anchors = Anchors(self._held.anchors(engine.seed))
            probes = Probes(self._held.probes(), anchors)
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

    def _on_step(self, progress: Progress) -> None:
        self._live.count(progress)
        if progress.step % LONG_STEPS == 0:
            self._give_back_memory()

    def _give_back_memory(self) -> None:
        self._engine.priority.when_quiet(give_back)  # 20 to 30 ms, in which whoever needs memory waits


def core_trace(t: Trace) -> core.Trace:
    """A stored trace as training takes it."""
    return core.Trace(
        t.side, t.prompt, t.completion, t.confidence, confirmed=t.side == "win" and t.source != "judged", key=t.id
    )
