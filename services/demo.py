"""The demonstration: a simulated user teaches the pocket model while you watch. Nothing real is read or changed.

It has a store and adapters of its own in a folder that is deleted afterwards, and a second pair of models over the very
same base weights. The user is simulated (pocket/simulated_user.py); model, training, gate and store are the real ones.
"""

from __future__ import annotations

import logging
import random
import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from feedback_store import Store, StoreError
from pocket.simulated_user import SimulatedUser
from pocket.tasks import Task, open_task
from pocket.wordings import OPEN, split
from pocket.world import Fact, load_world
from services.chat.chat import ChatService
from services.chat.feedback import FeedbackService
from services.data.private_files import DEMO_PREFIX
from services.engine import Engine, ModelParts
from services.learning.rounds import LearningService
from services.models.built_in import POCKET_MODEL
from services.priority import Closing
from services.views import DemoTurn, DemoView
from spear_core.config import PRESETS
from spear_core.errors import SpearError
from spear_core.inference.rollout import answer_all
from spear_core.models.loading import load_model

log = logging.getLogger(__name__)
FACTS = 10  # half-known ones, drawn by the seed
MEETINGS = 4  # each fact is asked about this often, in different wordings
TURNS_SHOWN = 6
SPEEDS = {"slow": 2.5, "normal": 0.8, "fast": 0.0}  # seconds of rest after each question
CLOSE_SECONDS = 20.0


class Cancelled(Exception):
    """The run was reset; its thread ends."""


@dataclass
class _Run:
    """One run, from Start to Reset. The thread writes `view`; readers see it whole."""

    view: DemoView
    cancelled: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


class DemoService:
    """One demonstration for everyone who looks at this instance; all methods are quick and may be called anywhere."""

    def __init__(self, engine: Engine, facts: int = FACTS, meetings: int = MEETINGS) -> None:
        self._engine = engine
        self._facts, self._meetings = facts, meetings
        self._lock = threading.Lock()
        self._run: _Run | None = None
        self.speed = "normal"

    def view(self) -> DemoView:
        run = self._run
        if run is None:
            return DemoView("idle", total=self._facts * self._meetings)
        if run.view.phase == "running" and not run.go.is_set():
            return replace(run.view, phase="paused")
        return run.view

    def start(self, seed: int = 1) -> None:
        """Begin, or go on after a pause. Nothing happens while one runs."""
        with self._lock:
            if self._run is None or self._run.view.phase in ("done", "failed"):
                run = self._run = _Run(DemoView("preparing", total=self._facts * self._meetings))
                run.thread = threading.Thread(target=self._play, args=(run, seed), name="demo", daemon=True)
                run.thread.start()
            self._run.go.set()

    def pause(self) -> None:
        """Rest after the question under way."""
        if self._run:
            self._run.go.clear()

    def set_speed(self, speed: str) -> None:
        """Raises SpearError for one that is not in SPEEDS."""
        if speed not in SPEEDS:
            raise SpearError(f"There is no speed {speed!r}; choose one of: {', '.join(SPEEDS)}.")
        self.speed = speed

    def reset(self) -> None:
        """Throw away what was learned; the thread ends after the step it is in."""
        with self._lock:
            run, self._run = self._run, None
        if run:
            run.cancelled.set()
            run.go.set()

    def close(self) -> None:
        run = self._run
        self.reset()
        if run and run.thread:
            run.thread.join(CLOSE_SECONDS)

    # -- one run ---------------------------------------------------------------------------------------------

    def _play(self, run: _Run, seed: int) -> None:
        folder = Path(tempfile.mkdtemp(prefix=DEMO_PREFIX))
        try:
            with Store(folder / "demo.sqlite3") as store:
                _Scene(self, run, _scratch_engine(self._engine, store, folder, seed), seed).play()
        except (Cancelled, Closing):
            log.info("the demonstration was ended")
        except (SpearError, StoreError, RuntimeError, MemoryError, OSError) as error:
            log.exception("the demonstration failed")
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            run.view = replace(run.view, phase="failed", now=f"{reason} Press Reset and start again.")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def stream(self, seed: int) -> list[tuple[Fact, str]]:
        """Half-known facts with their wordings, each met several times, shuffled by the seed."""
        rng = random.Random(seed)
        facts = rng.sample([f for f in load_world().facts if f.half_known], self._facts)
        met = []
        for fact in facts:
            wordings = split(OPEN[fact.relation], held_out=False)
            met += [(fact, wording) for wording in rng.sample(wordings, min(self._meetings, len(wordings)))]
        rng.shuffle(met)
        return met


def _scratch_engine(engine: Engine, store: Store, folder: Path, seed: int) -> Engine:
    """An engine of its own over the pocket model; over the very weights that serve, where the pocket model does."""
    is_pocket = Path(engine.loaded.name).resolve() == POCKET_MODEL
    loaded = engine.loaded if is_pocket else load_model(str(POCKET_MODEL))
    return Engine(
        store=store,
        model=ModelParts.of(loaded, engine.config if is_pocket else PRESETS["live"]),
        data_folder=folder,
        seed=seed,
        priority=engine.priority,  # real chats come first here too
    )


class _Scene:
    """The stream of questions, played over scratch services."""

    def __init__(self, demo: DemoService, run: _Run, engine: Engine, seed: int) -> None:
        self.demo, self.run, self.engine = demo, run, engine
        self.learning = LearningService(engine)
        self.feedback = FeedbackService(engine)
        self.chat = ChatService(engine, self.feedback)
        self.user = SimulatedUser(seed)
        self.world = load_world()
        self.met = demo.stream(seed)
        self.tasks = [open_task(self.world, fact, wording) for fact, wording in self.met]
        facts = {fact.key: fact for fact, _ in self.met}
        self.exam = [
            open_task(self.world, fact, wording)
            for fact in facts.values()
            for wording in split(OPEN[fact.relation], held_out=True)
        ]

    def tell(self, **changes: object) -> None:
        if self.run.cancelled.is_set():
            raise Cancelled
        self.run.view = replace(self.run.view, **changes)  # type: ignore[arg-type]

    def answers(self, tasks: Sequence[Task], *, frozen: bool = False) -> list[str]:
        shared_models, loaded = self.engine.shared_models, self.engine.loaded
        return answer_all(
            shared_models.base if frozen else shared_models.serving.model,
            loaded.tokenizer,
            [[{"role": "user", "content": task.question}] for task in tasks],
            context_tokens=loaded.context_tokens,
            max_new_tokens=self.engine.max_new_tokens,
            priority=self.engine.priority.give_way,
        )

    def share_right(self, tasks: Sequence[Task], *, frozen: bool = False) -> float:
        said = self.answers(tasks, frozen=frozen)
        return sum(task.verdict(reply) for task, reply in zip(tasks, said, strict=True)) / len(tasks)

    def play(self) -> None:
        self.tell(now="Asking the frozen model all questions.")
        frozen = self.answers(self.tasks, frozen=True)
        at_first = self.share_right(self.exam, frozen=True)
        self.tell(total=len(self.tasks), exam=((0, at_first),), exam_frozen=at_first, exam_size=len(self.exam))
        self.tell(now="Preparing the checks that every training must pass.")
        self.learning.prepare()
        self.tell(phase="running", now="")
        for number, (task, frozen_reply) in enumerate(zip(self.tasks, frozen, strict=True), start=1):
            self.run.go.wait()
            self.meet(number, task, frozen_reply)
            self.run.cancelled.wait(SPEEDS[self.demo.speed])
        self.tell(phase="done", now="")

    def meet(self, number: int, task: Task, frozen_reply: str) -> None:
        """One question: ask; where wrong, hint and judge revisions; where one is right, learn it and sit the exam."""
        self.user.begin(number)
        turn = DemoTurn(number, task.question, frozen=frozen_reply, frozen_right=task.verdict(frozen_reply))
        earlier = self.run.view.turns

        def show(turn: DemoTurn, now: str) -> DemoTurn:
            self.tell(turns=(*earlier, turn)[-TURNS_SHOWN:], now=now)
            return turn

        turn = show(turn, "The user asks.")
        reply = list(self.chat.reply(self.chat.new_conversation().id, task.question))[-1]
        right = self.user.finds_right(task, reply.text)
        turn = replace(turn, reply=reply.text, right=right)
        view = self.run.view
        self.tell(first_try=(*view.first_try, right), first_try_frozen=(*view.first_try_frozen, turn.frozen_right))
        if right:
            show(turn, "Right at the first try.")
            return
        correction, said = self.user.correct(task), reply
        for _ in range(self.engine.config.num_revisions):
            hint = correction.hint(said.text)
            turn = show(replace(turn, hint=hint, revision=""), "The user gives a partial hint.")
            said = list(self.chat.revise(said.id, hint))[-1]
            confirmed = self.user.finds_right(task, said.text)
            turn = show(replace(turn, revision=said.text, confirmed=confirmed), "The user judges the revision.")
            if confirmed:
                break
            self.feedback.still_wrong(said.id)
        else:
            show(turn, "No revision was right, so nothing is learned from this one.")
            return
        self.feedback.better(said.id)
        show(turn, "The model learns the confirmed revision.")
        self.learning.run_pending()
        last = self.engine.store.last_round(self.engine.base)
        kept = last is not None and last.status == "promoted"
        view = self.run.view
        if kept:
            self.tell(exam=(*view.exam, (number, self.share_right(self.exam))), kept=view.kept + 1)
        else:
            self.tell(refused=view.refused + 1)
        show(replace(turn, learned=kept), "Learned and live." if kept else "The gate did not keep this training.")
