"""Learning rounds from the store to the serving twin: claim, train, gate, promote, tell. One round at a time."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import threading
import time
from datetime import UTC, datetime
from typing import Any

from feedback_store import NewAdapter, Round, StoreError, Trace, TracesWithdrawn
from services.anchors import build_anchors, build_probes
from services.engine import Engine
from services.views import AdapterView, LearningStatus, Proof
from spear_core import traces as core
from spear_core.adapters import load_adapter, save_adapter
from spear_core.errors import AdapterInvalid, SpearError
from spear_core.round import Learner, RoundResult
from spear_core.trainer import Progress
from spear_core.twins import AdapterState, lora_config

log = logging.getLogger(__name__)
PAUSED = "learning_paused"
ROLL_BACK_WAIT_SECONDS = 60.0


class LearningService:
    """`run_pending` is the job; everything else is quick and may be called from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store
        self._round_lock = threading.Lock()
        self._status_lock = threading.Lock()
        self._learner: Learner | None = None
        self._live: dict[str, Any] = {}  # phase, headline, detail, step, max_steps of the round under way
        self._note = ""  # what went wrong at start or in the last round, for the card
        self.on_kick = lambda: None  # set by jobs: start a round now
        released = self._store.release_interrupted(engine.base)
        if released:
            log.info("%d interrupted round(s) released; their corrections will be learned again", released)
        self._state = self._restore()

    # -- what the screen asks --------------------------------------------------------------------------------

    def status(self) -> LearningStatus:
        with self._status_lock:
            live = dict(self._live)
        base = self._engine.base
        version = self._store.active_version(base)
        wins, loses = self._store.count_pending(base)
        last = self._store.last_round(base)
        common: dict[str, Any] = {
            "adapter_version": version,
            "paused": self.paused,
            "pending_wins": wins,
            "pending_loses": loses,
            "can_roll_back": version > 0,
            "proof": _proof(last, version),
            "seconds": last.figures.get("seconds_to_live") if last else None,
        }
        if live:
            return LearningStatus(**live, **common)
        phase, headline, detail = self._resting(last, version, wins, loses)
        return LearningStatus(phase, headline, detail, **common)

    def _resting(self, last: Round | None, version: int, wins: int, loses: int) -> tuple[str, str, str]:
        """Phase, headline and detail while no round is under way."""
        if self.paused:
            waiting = (
                f"{wins} confirmed answer{'s' if wins != 1 else ''} will be learned when you resume."
                if wins
                else "Nothing is waiting."
            )
            return "paused", "Learning is paused.", waiting
        if wins:
            return "queued", "Your correction is queued.", "Training starts in a moment."
        if self._note:
            return "failed", "The last round failed.", self._note
        if last and last.status == "discarded":
            return "not_kept", "Not kept.", last.verdict.removeprefix("Not kept: ")
        if loses:
            what = "1 rejected answer is" if loses == 1 else f"{loses} rejected answers are"
            return (
                "waiting",
                "Waiting for one right answer.",
                f"{what} noted. Nothing trains until one answer is confirmed: press Better on a revision, or edit the reply.",
            )
        if last and last.status == "promoted" and version == last.adapter_version:
            return "live", f"Learned: adapter v{version} is live.", last.verdict
        if version:
            return "live", f"Adapter v{version} is live.", "Correct a reply to teach it more."
        return (
            "idle",
            "Nothing learned yet.",
            "Press thumbs-down on a wrong reply and say in a few words what should change.",
        )

    @property
    def paused(self) -> bool:
        return bool(self._store.setting(PAUSED, False))

    def pause(self) -> None:
        """Start no further round; one under way ends."""
        self._store.set_setting(PAUSED, True)

    def resume(self) -> None:
        self._store.set_setting(PAUSED, False)
        self.kick()

    def kick(self) -> None:
        """Something may be learnable: start a round now rather than at the next interval."""
        self.on_kick()

    def adapters(self) -> list[AdapterView]:
        """All versions of this base model, newest first."""
        active = self._store.active_version(self._engine.base)
        rounds = {r.id: r for r in self._store.rounds(self._engine.base, limit=1000)}
        views = []
        for a in self._store.adapters(self._engine.base):
            made_by = rounds.get(a.round_id) if a.round_id is not None else None
            views.append(
                AdapterView(
                    a.version,
                    a.parent_version,
                    "live" if a.version == active else a.status,
                    a.created_at_utc,
                    made_by.verdict if made_by else "",
                    made_by.wins if made_by else 0,
                    made_by.loses if made_by else 0,
                )
            )
        return views

    # -- what changes the model ------------------------------------------------------------------------------

    def roll_back(self) -> int:
        """Serve the previous adapter again; the undone corrections train again only if asked. Returns its version.

        Raises SpearError where there is nothing to undo, or a round does not end in time.
        """
        if not self._round_lock.acquire(timeout=ROLL_BACK_WAIT_SECONDS):
            raise SpearError("A correction is being learned right now; try again when it is done.")
        try:
            base = self._engine.base
            active = self._store.active_version(base)
            if active == 0:
                raise SpearError("There is no adapter to undo: this is the model as it came.")
            parent = self._store.adapter(base, active).parent_version
            state = self._read(parent)
            version = self._store.roll_back(base)
            self._serve(state, version)
            return version
        finally:
            self._round_lock.release()

    def prepare(self) -> None:
        """Make the gate's probes and the starter anchors, so that the first correction need not wait for them."""
        with self._round_lock:
            self._ready_learner()

    def run_pending(self) -> int:
        """Learn everything that waits, round after round. Returns how many rounds were run."""
        done = 0
        with self._round_lock:
            while not self.paused:
                version = self._store.active_version(self._engine.base)
                claimed = self._store.claim_round(self._engine.base, version)
                if claimed is None:
                    break
                self._note = ""
                self._run(*claimed)
                done += 1
        return done

    # -- one round -------------------------------------------------------------------------------------------

    def _run(self, round_: Round, claimed: list[Trace]) -> None:
        try:
            self._tell("queued", "Your correction is queued.", "Preparing the training.")
            self._learn(round_, claimed)
        except TracesWithdrawn:
            # what was taken back must not go live; the rest is trained anew
            self._store.finish_round(
                round_.id, "interrupted", verdict="A vote was withdrawn during training; the rest is trained anew."
            )
        except (SpearError, StoreError, RuntimeError, MemoryError, OSError) as e:
            log.exception("round %d failed", round_.id)
            self._note = f"Nothing was changed; the previous adapter keeps serving. ({str(e).splitlines()[0] if str(e) else type(e).__name__})"
            self._store.finish_round(round_.id, "discarded", verdict=f"Not kept: {self._note}")
        finally:
            with self._status_lock:
                self._live = {}

    def _learn(self, round_: Round, claimed: list[Trace]) -> None:
        engine, base = self._engine, self._engine.base
        learner = self._ready_learner()
        seed = engine.seed * 1_000_003 + round_.id
        learner.anchors = build_anchors(engine, seed)
        replay = self._store.replay_wins(base, 10_000, [t.id for t in claimed], seed)
        self._tell(
            "training",
            "Training on your correction.",
            _counted(claimed, len(replay)),
            max_steps=engine.config.max_steps,
        )
        result = learner.run_round(
            self._state,
            [_core_trace(t) for t in claimed if t.side == "win"],
            [_core_trace(t) for t in claimed if t.side == "lose"],
            [_core_trace(t) for t in replay],
            seed,
            on_step=self._on_step,
            on_check=lambda: self._tell(
                "checking", "Checking what was learned.", "Asking again, and asking older questions too."
            ),
        )
        if {t.id for t in self._store.still_claimed(round_.id)} != {t.id for t in claimed}:
            raise TracesWithdrawn("a vote was withdrawn during training")
        figures = result.figures()
        if not result.verdict.passed or result.state is None:
            self._store.finish_round(
                round_.id,
                "discarded",
                verdict=result.verdict.words,
                figures=figures,
                proof=_proof_dict(result),
                replayed=len(replay),
            )
            return
        self._promote(round_, claimed, result, figures, len(replay))

    def _promote(
        self, round_: Round, claimed: list[Trace], result: RoundResult, figures: dict[str, Any], replayed: int
    ) -> None:
        assert result.state is not None  # a passed verdict brings the adapter
        engine, base = self._engine, self._engine.base
        version = self._store.next_version(base)
        folder = engine.adapter_folder(version)
        manifest = {
            "base": base,
            "version": version,
            "parent_version": round_.parent_version,
            "round": round_.id,
            "traces": [t.id for t in claimed],
            "figures": figures,
        }
        sha256 = save_adapter(folder, result.state, lora_config(engine.config), engine.loaded.name, manifest)
        waited_since = max(datetime.fromisoformat(t.created_at_utc) for t in claimed)
        figures = {**figures, "seconds_to_live": round((datetime.now(UTC) - waited_since).total_seconds(), 2)}
        self._store.promote(
            round_.id,
            NewAdapter(
                base, version, round_.parent_version, str(folder.relative_to(engine.data_folder)), sha256, figures
            ),
            figures=figures,
            verdict=result.verdict.words,
            proof=_proof_dict(result),
            replayed=replayed,
            trained_ids=[t.id for t in claimed],
        )
        self._serve(result.state, version)
        log.info("adapter v%d is live after %.1f s", version, figures["seconds_to_live"])

    # -- state -----------------------------------------------------------------------------------------------

    def _serve(self, state: AdapterState | None, version: int) -> None:
        self._state = state
        self._engine.twins.publish(state, version)

    def _read(self, version: int) -> AdapterState | None:
        if version == 0:
            return None
        adapter = self._store.adapter(self._engine.base, version)
        return load_adapter(self._engine.data_folder / adapter.folder, adapter.sha256)

    def _restore(self) -> AdapterState | None:
        """Serve the active adapter; where it is damaged, the newest intact ancestor, and say so."""
        base = self._engine.base
        version = self._store.active_version(base)
        while version:
            try:
                state = self._read(version)
                self._engine.twins.publish(state, version)
                return state
            except AdapterInvalid as e:
                parent = self._store.adapter(base, version).parent_version
                self._note = f"{e}. Serving v{parent} instead."
                log.error("%s", self._note)
                self._store.set_active(base, parent)
                version = parent
        return None

    def _ready_learner(self) -> Learner:
        if self._learner is None:
            engine = self._engine
            started = time.monotonic()
            config = dataclasses.replace(engine.config, max_new_tokens=engine.max_new_tokens)
            probes = build_probes(engine)
            anchors = build_anchors(engine, engine.seed)
            self._learner = Learner(
                engine.twins, engine.encoder, config, anchors, probes, engine.pad_id, engine.pace.give_way
            )
            log.info(
                "%d anchors and %d probes ready in %.1f s",
                len(anchors.examples),
                len(probes.examples),
                time.monotonic() - started,
            )
        return self._learner

    def _on_step(self, progress: Progress) -> None:
        with self._status_lock:
            if self._live:
                self._live |= {"phase": "training", "step": progress.step, "max_steps": progress.max_steps}

    def _tell(self, phase: str, headline: str, detail: str, *, max_steps: int = 0) -> None:
        with self._status_lock:
            self._live = {"phase": phase, "headline": headline, "detail": detail, "step": 0, "max_steps": max_steps}

    def remove_files_of_unfinished_rounds(self) -> None:
        """Delete adapter folders that no row of the store knows (a kill between writing and promoting)."""
        folder = self._engine.adapter_folder(1).parent
        known = {self._engine.data_folder / a.folder for a in self._store.adapters(self._engine.base)}
        for child in folder.iterdir() if folder.is_dir() else ():
            if child.is_dir() and child not in known:
                shutil.rmtree(child, ignore_errors=True)


def _core_trace(t: Trace) -> core.Trace:
    return core.Trace(
        t.side, t.prompt, t.completion, t.confidence, confirmed=t.side == "win" and t.source != "judged", key=t.id
    )


def _counted(claimed: list[Trace], replayed: int) -> str:
    wins = sum(t.side == "win" for t in claimed)
    loses = len(claimed) - wins
    parts = [f"{wins} confirmed answer{'s' if wins != 1 else ''}", f"{loses} rejected"]
    return ", ".join(parts) + (f", {replayed} earlier to keep in mind." if replayed else ".")


def _proof_dict(result: RoundResult) -> dict[str, Any] | None:
    if result.proof is None:
        return None
    prompt, before, after = result.proof
    return {"prompt": prompt[-1]["content"], "before": before, "after": after}


def _proof(last: Round | None, version: int) -> Proof | None:
    if last is None or last.proof is None or last.status != "promoted" or last.adapter_version != version:
        return None
    return Proof(**last.proof, before_version=last.parent_version, after_version=version)
