"""The process that is killed: the app's services on a data folder, doing seeded work and saying what it has acknowledged.

It sends dicts through a pipe: ledger entries (kill_ledger.py), {"phase": name, "begins": bool}, and once after its start
{"checked": complaints}. The work is the real one: wrappers around a few functions say when a phase begins and ends.
"""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

import services.learning.lineage
import spear_core.training.round
import spear_core.training.trainer
from benchmarks.kill_check import check, words_of
from benchmarks.kill_ledger import allowed_words, read_ledger, settled
from benchmarks.old_schema import EARLIER, complaints_about, write_old_database
from benchmarks.real_corrections import personal_facts
from benchmarks.real_figures import contains
from benchmarks.report import DEFAULT_MODEL
from federation.identity import open_identity
from federation.join_requests import JoinRequest
from federation.peer_host import PARTIAL_PREFIX, PARTIAL_SUFFIX
from federation.update import write_update
from feedback_store import Store
from feedback_store.adapters import Adapters
from pocket.tasks import Task, open_task
from pocket.wordings import OPEN, split
from pocket.world import load_world
from services.app import AppServices, open_services
from services.data import backups
from services.data.backups import serving
from services.settings import Settings
from services.views import MessageView
from spear_core.models.settings import SETTINGS_FILE
from spear_core.training.judge import normalised

REAL_ROUND = "real round"  # of a general language model, on a data folder of its own
PHASES = ("start", "vote", "revision", "training", "gate", "adapter write", "promotion", "merge", "backup", "migration")
OLD_CONVERSATIONS = 2000
# Rounds that take a second, not ten: without anchors, with few probes and a wide gate. What a kill can break is the same.
FEW = {"probe_prompts": 6, "anchor_prompts": 8, "anchor_revisions": 4}
QUICK = {
    "learning_rate": 5e-3,
    "anchor_weight": 0.0,
    "prompt_dropout": 0.0,
    "max_steps": 24,
    "settle_steps": 2,
    "gate_max_probe_kl": 1000.0,
    "gate_max_changed": 1.0,
    "gate_max_changed_of_a_kind": 1.0,
    "gate_max_worst_probe_kl": 1000.0,
    "gate_max_forgotten": 1.0,
    "gate_max_older_nll_rise": 1000.0,
    "max_new_tokens": 24,
}
QUICK_REAL = {
    "max_steps": 8,
    "settle_steps": 1,
    "settle_drift": 100.0,
    "wordings": 0,
    "neighbours": 0,
    "repair_steps": 0,
    "recent_probes": 0,
    "max_new_tokens": 24,
    **{name: value for name, value in QUICK.items() if name.startswith("gate_")},
}
FEW_OF_A_KIND = 2
MOST_TRIES = 6  # at reaching a phase: a round may be refused


@dataclass(frozen=True)
class Places:
    """Where an instance lives, and what was made ready for it beside (`prepare`)."""

    data: Path
    ledger: Path
    material: Path
    real: bool = False  # the model is the general one

    @property
    def model(self) -> Path:
        return self.material / ("real-model" if self.real else "model")

    @property
    def migrating(self) -> Path:
        return self.data.with_name(f"{self.data.name}-old") / "spear.sqlite3"


@dataclass(frozen=True)
class Question:
    """What a general language model is corrected about."""

    question: str
    truth: str
    target: str

    def verdict(self, reply: str) -> bool:
        return contains(reply, self.target)


def open_app(places: Places) -> AppServices:
    quick: dict[str, Any] = QUICK_REAL if places.real else QUICK
    settings = Settings(model=str(places.model), data_folder=places.data, threads=1, spear=dict(quick))
    return open_services(settings, start_jobs=False)


def prepare(material: Path, real_model: str = "") -> None:
    """The pocket model with FEW questions; a peer's key and taught adapter; and a database of each earlier schema.

    And where one is named, the general language model with few questions of each kind.
    """
    if real_model:
        _prepare_real(Path(real_model), material / "real-model")
    shutil.copytree(DEFAULT_MODEL, material / "model", dirs_exist_ok=True)
    words = json.loads((material / "model" / "spear.json").read_text())
    words |= {name: words[name][:count] for name, count in FEW.items()}
    (material / "model" / "spear.json").write_text(json.dumps(words))
    peer = Places(material / "peer", material / "none", material)
    app = open_app(peer)
    worker = Worker(app, peer, random.Random(0), lambda said: None)
    while not app.learning.lineage.state:
        worker.learn()
    state = app.learning.lineage.state
    save_file({name: t.contiguous() for name, t in state.items()}, material / "taught.safetensors")
    app.close()
    open_identity(material / "key.pem")
    for level in EARLIER:
        write_old_database(material / f"old-{level}.sqlite3", level, OLD_CONVERSATIONS)


def _prepare_real(model: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in model.iterdir():
        if file.is_file() and file.name != SETTINGS_FILE:
            (folder / file.name).symlink_to(file.absolute())
    words = json.loads((model / SETTINGS_FILE).read_text()) if (model / SETTINGS_FILE).is_file() else {}
    for name in FEW:
        if isinstance(prompts := words.get(name), dict):
            words[name] = {kind: of_kind[:FEW_OF_A_KIND] for kind, of_kind in prompts.items()}
        elif prompts:
            words[name] = prompts[: FEW[name]]
    (folder / SETTINGS_FILE).write_text(json.dumps(words))


def live(places: Places, phase: str, seed: int, pipe: Connection) -> None:
    """Start, check, work towards `phase` and on; with phase "" learn what waits, check again and end."""
    lock = threading.Lock()

    def send(said: dict[str, Any]) -> None:
        with lock:
            pipe.send(said)

    with serving(places.data):
        app = open_app(places)
        entries = read_ledger(places.ledger)
        complaints = check(app, entries) + _migrated(places)
        worker = Worker(app, places, random.Random(seed), send)
        worker.settle(entries)
        send({"checked": complaints})
        if phase:
            worker.work(phase)
        else:
            worker.finish()
        app.close()


def _migrated(places: Places) -> list[str]:
    """A migration that was cut off is done by the next opening, and nothing is lost."""
    path = places.migrating
    if not path.is_file():
        return []
    level = int(path.with_name("level").read_text())
    Store(path).close()
    found = [f"of a database of level {level}, {words}" for words in complaints_about(path, level, OLD_CONVERSATIONS)]
    shutil.rmtree(path.parent)
    return found


class Worker:
    """Seeded acts of a simulated user, an owner and a peer, each said to have been begun and to be acknowledged."""

    def __init__(
        self, app: AppServices, places: Places, rng: random.Random, send: Callable[[dict[str, Any]], None]
    ) -> None:
        self.app, self.places, self.rng, self.send = app, places, rng, send
        self.facts = [f for f in load_world().facts if f.half_known and f.relation in OPEN]
        self.corrections = personal_facts() if places.real else []
        self.votable: list[MessageView] = []
        self._announce_rounds()

    # -- phases ----------------------------------------------------------------------------------------------

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.send({"phase": name, "begins": True})
        yield
        self.send({"phase": name, "begins": False})

    def _announce_rounds(self) -> None:
        """The phases inside a round, wherever it is run from."""
        for owner, name, phase in (
            (spear_core.training.trainer.Trainer, "train", "training"),
            (spear_core.training.round.Learner, "_measured", "gate"),
            (services.learning.lineage, "save_adapter", "adapter write"),
            (Adapters, "promote", "promotion"),
        ):
            real = getattr(owner, name)
            real = getattr(real, "unannounced", real)

            def announced(*args: Any, _real: Any = real, _phase: str = phase, **kwargs: Any) -> Any:
                with self.phase(_phase):
                    return _real(*args, **kwargs)

            announced.unannounced = real  # type: ignore[attr-defined]
            setattr(owner, name, announced)

    def work(self, phase: str) -> None:
        acts = {"vote": self.vote, "revision": self.revise, "merge": self.merge, "backup": self.back_up}
        act = {**acts, "migration": self.migrate, REAL_ROUND: self.real_round}.get(phase, self.learn)
        for _ in range(0 if self.places.real else self.rng.randint(0, 2)):
            self.rng.choice([self.vote, self.revise])()
        for _ in range(MOST_TRIES):
            act()
        time.sleep(60)  # what was to be killed is over; the driver says so

    def finish(self) -> None:
        """Whatever was interrupted is learned now, and nothing waits any more."""
        self.run_rounds()
        wins, _ = self.app.engine.store.count_pending(self.app.engine.base)
        self.send({"finished": [f"{wins} confirmed answers still wait"] * bool(wins)})

    def settle(self, entries: list[dict[str, Any]]) -> None:
        """Say of what was begun before the kill what has become of it."""
        stored = words_of(self.app, list(allowed_words(entries)))
        for entry in settled(entries, stored)[len(entries) :]:
            self.send(dict(entry))
        changes = [e for e in entries if e["what"] == "version"]
        if changes and changes[-1]["do"] == "try":
            self.send({"do": "ack", "what": "version", "version": self.app.learning.lineage.version})

    # -- acts ------------------------------------------------------------------------------------------------

    def vote(self) -> None:
        """A burst of votes, changed and withdrawn ones too, on replies that teach nothing."""
        chat, feedback = self.app.chat, self.app.feedback
        while len(self.votable) < 3:
            conversation = chat.new_conversation(learn=False)
            self.votable.append(list(chat.reply(conversation.id, self._task().question))[-1])
        up, down, none = (1, "win liked"), (-1, "lose no_hint"), (0, "")
        with self.phase("vote"):
            for _ in range(8):
                reply = self.rng.choice(self.votable)
                act, word = self.rng.choice(
                    [(feedback.like, up), (feedback.dislike, down), (feedback.clear_vote, none)]
                )
                traces = (word[1],) if word[1] and reply.text else ()
                self._say(reply, word[0], traces, lambda a=act, r=reply: a(r.id))  # type: ignore[misc]

    def revise(self) -> None:
        """A hint, a revision, and a word about it; nothing is trained."""
        self._correct(learn=False)

    def learn(self) -> None:
        """A correction and its round, while votes come in."""
        self._correct(learn=True)
        voting = threading.Thread(target=self.vote, daemon=True)
        voting.start()
        self.run_rounds()
        voting.join()
        if self.app.learning.lineage.version and self.rng.random() < 0.15:
            self.send({"do": "try", "what": "version"})
            self.send({"do": "ack", "what": "version", "version": self.app.learning.roll_back()})

    def real_round(self) -> None:
        """A correction of the general language model, and its round as one phase."""
        self._correct(learn=True)
        with self.phase(REAL_ROUND):
            self.run_rounds()

    def run_rounds(self) -> None:
        self.send({"do": "try", "what": "version"})
        self.app.learning.run_pending()
        self.send({"do": "ack", "what": "version", "version": self.app.learning.lineage.version})

    def merge(self) -> None:
        """A peer's update comes in and is merged."""
        app = self.app
        author, taught = (
            open_identity(self.places.material / "key.pem"),
            load_file(self.places.material / "taught.safetensors"),
        )
        app.sync.join_requests.add(JoinRequest(author.public, "peer", "", "127.0.0.1", time.time()))
        app.sync.approve(author.public.text)
        first, share = app.engine.shared_models.initial, self.rng.uniform(0.3, 1.0)
        sent, path = (
            self.places.data.with_name("sent.safetensors"),
            app.sync.inbox / f"{PARTIAL_PREFIX}x{PARTIAL_SUFFIX}",
        )
        number = (app.engine.store.peer(author.public.text).seen_round or 0) + 1
        with self.phase("merge"):
            write_update(
                sent,
                {name: first[name] + share * (t - first[name]) for name, t in taught.items()},
                author,
                base=app.engine.base,
                alpha=app.engine.config.lora_alpha,
                round=number,
                wins=1,
                parent=app.sync.merging.first.digest,
                created_at_utc=int(time.time()),
            )
            shutil.copyfile(sent, path)
            app.sync.receive(author.public, path)
            self.send({"do": "try", "what": "version"})
            app.sync.sync()
            self.send({"do": "ack", "what": "version", "version": app.learning.lineage.version})

    def back_up(self) -> None:
        app = self.app
        folder = app.engine.data_folder
        with self.phase("backup"):
            archive = backups.back_up(app.engine.store, folder)
        self.send({"do": "ack", "what": "backup", "path": str(archive)})
        for old in backups.backups(folder)[2:]:
            old.unlink()

    def migrate(self) -> None:
        """An earlier version's database is opened."""
        level, path = self.rng.choice(list(EARLIER)), self.places.migrating
        scratch = path.parent.with_name(f"{path.parent.name}.new")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        (scratch / "level").write_text(str(level))
        shutil.copyfile(self.places.material / f"old-{level}.sqlite3", scratch / path.name)
        shutil.rmtree(path.parent, ignore_errors=True)
        scratch.rename(path.parent)
        with self.phase("migration"):
            Store(path).close()

    # -- parts of acts ---------------------------------------------------------------------------------------

    def _task(self) -> Task | Question:
        if self.places.real:
            correction = self.rng.choice(self.corrections)
            return Question(correction.question, correction.answer, correction.target)
        fact = self.rng.choice(self.facts)
        return open_task(load_world(), fact, self.rng.choice(split(OPEN[fact.relation], held_out=False)))

    def _say(self, reply: MessageView, vote: int, traces: tuple[str, ...], act: Callable[[], object]) -> None:
        entry = {"what": "say", "reply": reply.id, "vote": vote, "traces": list(traces)}
        self.send({"do": "try", **entry})
        act()
        self.send({"do": "ack", **entry})

    def _correct(self, learn: bool) -> None:
        chat, feedback, task = self.app.chat, self.app.feedback, self._task()
        conversation = chat.new_conversation(learn)
        reply = list(chat.reply(conversation.id, task.question))[-1]
        with self.phase("revision"):
            shown: list[MessageView] = []
            traces = ("lose unfixed",) if reply.text else ()
            self._say(reply, -1, traces, lambda: shown.extend(chat.revise(reply.id, f"no, {task.truth}")))
            revision = shown[-1]
            self.send({"do": "ack", "what": "revision", "message": revision.id, "text": revision.text})
            if task.verdict(revision.text):
                self._say(reply, -1, _replaced(reply, revision.text, "confirmed"), lambda: feedback.better(revision.id))
            else:
                self._say(
                    reply, -1, _replaced(reply, task.truth, "edited"), lambda: feedback.edit(reply.id, task.truth)
                )


def _replaced(reply: MessageView, right: str, source: str) -> tuple[str, ...]:
    same = not reply.text or normalised(reply.text) == normalised(right)
    return (f"win {source}",) if same else (f"win {source}", f"lose {source}")
