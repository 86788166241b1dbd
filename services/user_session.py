"""The services as one user may use them: their own texts, and of what all users share only what their role allows.

Chat and feedback are the ordinary services over a store that holds nothing but the user's conversations. Of the
learning, which concerns all users, only what is named here can be reached.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from feedback_store import Trace, UnknownRecord, UserStore
from services.accounts.permissions import owner_only
from services.accounts.users_file import User
from services.app import AppServices
from services.chat.chat import ChatService
from services.chat.feedback import FeedbackService
from services.data.backup_contents import BackupService, BackupView
from services.demo import DemoService
from services.engine import Engine
from services.learning import card_words
from services.learning.adapter_files import AdapterFiles
from services.learning.comparison import ComparisonService
from services.learning.progress import ProgressService
from services.learning.rounds import LearningService
from services.models.downloads import DownloadView
from services.models.switching import ModelService
from services.peers.sync import SyncService
from services.peers.views import CircleView, without_addresses
from services.views import (
    AdapterView,
    ContradictionView,
    DemoView,
    Forgotten,
    FoundModel,
    KnownModel,
    LearnedView,
    LearningStatus,
    MemoryView,
    ModelView,
    QueuedCorrection,
    RecommendedModel,
)
from spear_core.training.probes import OF_PEOPLE

CHANGE_BACKUPS = "see, make or delete backups"
CARRY_ADAPTERS, CHANGE_MODEL, RUN_DEMO = "carry adapters in and out", "change the model", "run the demonstration"


def _without_words(queued: QueuedCorrection) -> QueuedCorrection:
    return dataclasses.replace(queued, message_id="", question="", right="")


class UserLearning:
    """What one user sees of the learning, and may do to it. Raises NotAllowed where an owner is needed."""

    def __init__(
        self, learning: LearningService, engine: Engine, user: User, name_of: Callable[[str], str] = str
    ) -> None:
        self._learning = learning
        self._base = engine.base
        self._store = UserStore(engine.store, user.id)
        self._everybodys = engine.store
        self._name_of = name_of
        self.user = user

    def status(self) -> LearningStatus:
        """The status without the words of other users: their question in the proof, their hint in a style preference."""
        status = self._learning.status(
            lambda last: all(map(self._is_mine, last.figures.style_preferences or ())), self._are_mine
        )
        last = self._everybodys.last_round(self._base)
        changes: dict[str, object] = {
            "can_roll_back": status.can_roll_back and self.user.is_owner,
            "undone": status.undone if self.user.is_owner else 0,
            "queue": tuple(one if self._is_mine(one.message_id) else _without_words(one) for one in status.queue),
        }
        if last is not None:
            if self.user.id:  # with logins, owners see no more words of others than guests do
                changes["changed"] = tuple(c for c in status.changed if c.kind not in OF_PEOPLE)
            if status.proof and not self._store.proof_is_mine(last.id, status.proof.prompt):
                changes["proof"] = None
        return dataclasses.replace(status, **changes)  # type: ignore[arg-type]

    def _is_mine(self, message_id: str) -> bool:
        try:
            self._store.message(message_id)
        except UnknownRecord:
            return False
        return True

    def settle(self, keep_id: str, drop_id: str) -> None:
        """Of two of one's own corrections that contradict each other, keep one. Raises UnknownRecord for others'."""
        for message_id in (keep_id, drop_id):
            self._store.message(message_id)
        self._learning.settle(keep_id, drop_id)

    def _are_mine(self, found: ContradictionView) -> bool:
        with suppress(UnknownRecord):
            return bool(self._store.message(found.newer_id) and self._store.message(found.earlier_id))
        return False

    @property
    def paused(self) -> bool:
        return self._learning.paused

    @owner_only("pause learning")
    def pause(self) -> None:
        self._learning.pause()

    @owner_only("resume learning")
    def resume(self) -> None:
        self._learning.resume()

    def adapters(self, limit: int | None = None) -> list[AdapterView]:
        return self._learning.adapters(limit)

    @owner_only("undo an adapter")
    def roll_back(self) -> int:
        return self._learning.roll_back()

    @owner_only("restore an adapter")
    def restore(self, version: int) -> int:
        return self._learning.restore(version)

    @owner_only("pin an adapter")
    def pin(self, version: int, pinned: bool = True) -> None:
        self._learning.pin(version, pinned)

    def learned(self, limit: int = 200) -> list[LearnedView]:
        """What this user said about replies, newest first."""
        return self._views(self._store.latest_feedback(self._base, limit), limit)

    @owner_only("see what others taught")
    def learned_by_others(self, limit: int = 200) -> list[LearnedView]:
        """Where others gave feedback and what became of it, without a word or a vote of theirs: so that it can be
        forgotten.
        """
        traces = self._everybodys.latest_feedback_of_others(self._base, self.user.id, limit)
        return [
            dataclasses.replace(
                view, question="", right="", wrong="", source="", confidence=0.0, user=self._author(view.message_id)
            )
            for view in self._views(traces, limit)
        ]

    def _views(self, traces: list[Trace], limit: int) -> list[LearnedView]:
        made = {adapter.round_id: adapter.version for adapter in self._everybodys.adapters(self._base)}
        return card_words.learned_views(traces, limit, made)

    @property
    def sees_others(self) -> bool:
        """Whether `learned_by_others` may be asked."""
        return self.user.is_owner

    def _author(self, message_id: str) -> str:
        store = self._everybodys
        return self._name_of(store.conversation(store.message(message_id).conversation_id).user)

    def forget(self, message_ids: Collection[str]) -> Forgotten:
        """One's own; an owner also others'. Raises UnknownRecord for what the user may not know of."""
        if not self.user.is_owner:
            for message_id in message_ids:
                self._store.message(message_id)
        return self._learning.forget(message_ids)


class UserSync:
    """The circle as one user sees it; only an owner changes it. Raises NotAllowed where an owner is needed."""

    def __init__(self, sync: SyncService, user: User) -> None:
        self._sync = sync
        self.user = user

    def view(self) -> CircleView:
        """Where peers are, and who asks to join from where, is for owners."""
        circle = self._sync.view()
        return circle if self.user.is_owner else without_addresses(circle)

    @owner_only("add a peer")
    def add(self, address: str) -> None:
        self._sync.add(address)

    @owner_only("approve a peer")
    def approve(self, key: str) -> None:
        self._sync.approve(key)

    @owner_only("decline a peer")
    def decline(self, key: str) -> None:
        self._sync.decline(key)

    @owner_only("remove a peer")
    def remove(self, key: str) -> None:
        self._sync.remove(key)

    @owner_only("sync out of turn")
    def sync_now(self) -> None:
        self._sync.sync_now()


class UserAdapterFiles:
    """Export and import of adapters, for owners. Raises NotAllowed for others."""

    def __init__(self, files: AdapterFiles, user: User) -> None:
        self._files = files
        self.user = user

    @owner_only(CARRY_ADAPTERS)
    def download(self, version: int, folder: Path) -> Path:
        return self._files.download(version, folder)

    @owner_only(CARRY_ADAPTERS)
    def download_gguf(self, version: int, folder: Path) -> Path:
        return self._files.download_gguf(version, folder)

    @owner_only(CARRY_ADAPTERS)
    def upload(self, path: Path) -> int:
        return self._files.upload(path)


class UserBackups:
    """Backups in the data folder, for owners. Raises NotAllowed for others."""

    def __init__(self, backups: BackupService, user: User) -> None:
        self._backups = backups
        self.user = user

    @owner_only(CHANGE_BACKUPS)
    def views(self) -> list[BackupView]:
        return self._backups.views()

    @owner_only(CHANGE_BACKUPS)
    def back_up(self) -> str:
        return self._backups.back_up()

    @owner_only(CHANGE_BACKUPS)
    def erase(self) -> list[str]:
        return self._backups.erase()


class UserModels:
    """Which model answers: everybody sees it, an owner changes it. Raises NotAllowed where an owner is needed."""

    def __init__(self, models: ModelService, user: User) -> None:
        self._models = models
        self.user = user

    def known(self) -> list[KnownModel]:
        """Guests do not see where a model's folder lies."""
        known = self._models.known()
        return known if self.user.is_owner else [dataclasses.replace(m, name=Path(m.name).name) for m in known]

    @property
    def thinks(self) -> bool | None:
        return self._models.thinks

    def recommended(self) -> list[RecommendedModel]:
        """Guests do not see where a downloaded model's folder lies."""
        models = self._models.recommended()
        return models if self.user.is_owner else [dataclasses.replace(m, folder=Path(m.folder).name) for m in models]

    def download_view(self) -> DownloadView:
        """Guests do not see folders, which the reason of a failure may name too."""
        view = self._models.download_view()
        if self.user.is_owner:
            return view
        sentence = "The download failed." if view.phase == "failed" else view.sentence
        return dataclasses.replace(view, folder=Path(view.folder).name, sentence=sentence)

    @owner_only(CHANGE_MODEL)
    def on_this_machine(self) -> list[FoundModel]:
        return self._models.on_this_machine()

    @owner_only(CHANGE_MODEL)
    def named_folder(self) -> str:
        return self._models.named_folder()

    @owner_only(CHANGE_MODEL)
    def name_folder(self, folder: str) -> None:
        self._models.name_folder(folder)

    @owner_only(CHANGE_MODEL)
    def download(self, name: str) -> None:
        self._models.download(name)

    @owner_only(CHANGE_MODEL)
    def cancel_download(self) -> None:
        self._models.cancel_download()

    @owner_only(CHANGE_MODEL)
    def set_thinking(self, is_thinking: bool) -> None:
        self._models.set_thinking(is_thinking)

    @owner_only(CHANGE_MODEL)
    def weigh(self, name: str) -> MemoryView:
        return self._models.weigh(name)

    @owner_only(CHANGE_MODEL)
    def cancel(self) -> None:
        self._models.cancel()

    @owner_only(CHANGE_MODEL)
    def switch(self, name: str) -> bool:
        return self._models.switch(name)


class UserDemo:
    """The demonstration: everybody may watch it, an owner runs it. Raises NotAllowed where an owner is needed."""

    def __init__(self, demo: DemoService, user: User) -> None:
        self._demo = demo
        self.user = user

    @property
    def speed(self) -> str:
        return self._demo.speed

    def view(self) -> DemoView:
        return self._demo.view()

    @owner_only(RUN_DEMO)
    def start(self) -> None:
        self._demo.start()

    @owner_only(RUN_DEMO)
    def pause(self) -> None:
        self._demo.pause()

    @owner_only(RUN_DEMO)
    def reset(self) -> None:
        self._demo.reset()

    @owner_only(RUN_DEMO)
    def set_speed(self, speed: str) -> None:
        self._demo.set_speed(speed)


@dataclass(frozen=True)
class UserSession:
    """The services as one user may use them."""

    user: User
    store: UserStore
    chat: ChatService
    feedback: FeedbackService
    learning: UserLearning
    sync: UserSync
    comparison: ComparisonService
    progress: ProgressService
    adapter_files: UserAdapterFiles
    backups: UserBackups
    models: UserModels
    demo: UserDemo
    model: ModelView


class UserSessions:
    """One session object for each user of the app. Chats are kept by user: a second window may stop the first one's reply."""

    def __init__(self, app_services: AppServices, name_of: Callable[[str], str] = str) -> None:
        """`name_of` turns the id of a user, as conversations have it, into their name."""
        self._app_services = app_services
        self._name_of = name_of
        self._lock = threading.Lock()
        self._chats: dict[str, tuple[Engine, UserStore, ChatService, FeedbackService]] = {}

    def of(self, user: User) -> UserSession:
        app = self._app_services
        with self._lock:
            if user.id not in self._chats:
                store = UserStore(app.engine.store, user.id)
                engine = dataclasses.replace(app.engine, store=store)
                feedback = FeedbackService(engine, app.learning.kick)
                self._chats[user.id] = engine, store, ChatService(engine, feedback), feedback
            for engine, *_ in self._chats.values():  # of everybody, or idle users would keep an earlier model in memory
                engine.model = app.engine.model
            _, store, chat, feedback = self._chats[user.id]
        learning = UserLearning(app.learning, app.engine, user, self._name_of)
        return UserSession(
            user,
            store,
            chat,
            feedback,
            learning,
            UserSync(app.sync, user),
            app.comparison,
            app.progress,
            UserAdapterFiles(app.adapter_files, user),
            UserBackups(app.backups, user),
            UserModels(app.models, user),
            UserDemo(app.demo, user),
            app.model,
        )

    def close(self) -> None:
        """End every reply that is being written, and wait until what they have is stored."""
        with self._lock:
            for _, _, chat, _ in self._chats.values():
                chat.close()
