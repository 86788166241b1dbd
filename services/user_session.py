"""The services as one user may use them: their own words only, and what everybody shares only as far as they may.

Chat and feedback are the ordinary services over a store that knows nothing but the user's conversations. Of the
learning, which is about everybody, only what is named here can be reached.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from feedback_store import UnknownRecord, UserStore
from services.accounts.users_file import User
from services.app import AppServices
from services.chat.chat import ChatService
from services.chat.feedback import FeedbackService
from services.engine import Engine
from services.learning import card
from services.learning.comparison import ComparisonService
from services.learning.progress import ProgressService
from services.learning.rounds import LearningService
from services.peers.sync import SyncService
from services.peers.views import CircleView, without_addresses
from services.views import (
    AdapterView,
    ContradictionView,
    Forgotten,
    LearnedView,
    LearningStatus,
    ModelView,
    QueuedCorrection,
)
from spear_core.errors import SpearError
from spear_core.training.probes import Kind


class NotAllowed(SpearError):
    """Something that only an owner may do."""


def require_owner(user: User, what: str) -> None:
    """Raises NotAllowed unless the user is an owner; `what` completes "Only an owner may ..."."""
    if not user.is_owner:
        raise NotAllowed(f"Only an owner may {what}; ask one of them.")


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
        self._user = user

    def status(self) -> LearningStatus:
        """As the service says it, without the words of others: their question in the proof, their hint in a wish."""
        status = self._learning.status()
        last = self._everybodys.last_round(self._base)
        changes: dict[str, object] = {
            "can_roll_back": status.can_roll_back and self._user.is_owner,
            "undone": status.undone if self._user.is_owner else 0,
            "queue": tuple(one if self._knows(one.message_id) else _without_words(one) for one in status.queue),
        }
        if status.contradiction and not self._are_mine(status.contradiction):
            changes["contradiction"] = None
        if last is not None:
            # similar questions and recent replies come from somebody's chat; only starter questions are everybody's
            if self._user.id:  # with logins, owners see no more words of others than guests do
                changes["changed"] = tuple(c for c in status.changed if c.kind not in (Kind.NEIGHBOUR, Kind.RECENT))
            if status.proof and not self._store.proof_is_mine(last.id, status.proof.prompt):
                changes["proof"] = None
            if not all(map(self._is_mine, last.figures.get("wishes", []))):
                words = self._learning.wished(last)
                changes["detail"] = status.detail.replace(words, "").strip() if words else status.detail
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

    def pause(self) -> None:
        require_owner(self._user, "pause learning")
        self._learning.pause()

    def resume(self) -> None:
        require_owner(self._user, "resume learning")
        self._learning.resume()

    def adapters(self) -> list[AdapterView]:
        return self._learning.adapters()

    def roll_back(self) -> int:
        require_owner(self._user, "undo an adapter")
        return self._learning.roll_back()

    def restore(self, version: int) -> int:
        require_owner(self._user, "restore an adapter")
        return self._learning.restore(version)

    def pin(self, version: int, pinned: bool = True) -> None:
        require_owner(self._user, "pin an adapter")
        self._learning.pin(version, pinned)

    def learned(self, limit: int = 200) -> list[LearnedView]:
        """What this user said about replies, newest first."""
        made = {adapter.round_id: adapter.version for adapter in self._everybodys.adapters(self._base)}
        return card.learned_views(self._store.latest_feedback(self._base, limit), limit, made)

    def learned_by_others(self, limit: int = 200) -> list[LearnedView]:
        """Where others gave feedback and what became of it, without a word or a vote of theirs: so that it can be
        forgotten."""
        require_owner(self._user, "see what others taught")
        own = {view.message_id for view in self.learned(limit)}
        return [
            dataclasses.replace(
                view, question="", right="", wrong="", source="", confidence=0.0, user=self._author(view.message_id)
            )
            for view in self._learning.learned(limit)
            if view.message_id not in own
        ]

    @property
    def sees_others(self) -> bool:
        """Whether `learned_by_others` may be asked."""
        return self._user.is_owner

    def _author(self, message_id: str) -> str:
        store = self._everybodys
        return self._name_of(store.conversation(store.message(message_id).conversation_id).user)

    def _knows(self, message_id: str) -> bool:
        try:
            self._store.message(message_id)
        except UnknownRecord:
            return False
        return True

    def forget(self, message_ids: Collection[str]) -> Forgotten:
        """One's own; an owner also others'. Raises UnknownRecord for what the user may not know of."""
        if not self._user.is_owner:
            for message_id in message_ids:
                self._store.message(message_id)
        return self._learning.forget(message_ids)


class UserSync:
    """The circle as one user sees it; only an owner changes it. Raises NotAllowed where an owner is needed."""

    def __init__(self, sync: SyncService, user: User) -> None:
        self._sync = sync
        self._user = user

    def view(self) -> CircleView:
        """Where peers are, and who asks to join from where, is for owners."""
        circle = self._sync.view()
        return circle if self._user.is_owner else without_addresses(circle)

    def add(self, address: str) -> None:
        require_owner(self._user, "add a peer")
        self._sync.add(address)

    def approve(self, key: str) -> None:
        require_owner(self._user, "approve a peer")
        self._sync.approve(key)

    def decline(self, key: str) -> None:
        require_owner(self._user, "decline a peer")
        self._sync.decline(key)

    def remove(self, key: str) -> None:
        require_owner(self._user, "remove a peer")
        self._sync.remove(key)

    def sync_now(self) -> None:
        require_owner(self._user, "sync out of turn")
        self._sync.sync_now()


class OwnersOnly:
    """A service of which a guest may only look at what `shown` names. Raises NotAllowed for everything else."""

    def __init__(self, service: Any, user: User, what: str, shown: Collection[str]) -> None:
        self._service = service
        self._user = user
        self._what = what
        self._shown = frozenset(shown)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._service, name)
        if name in self._shown or not callable(found):
            return found

        def guarded(*arguments: Any, **more: Any) -> Any:
            require_owner(self._user, self._what)
            return found(*arguments, **more)

        return guarded


@dataclass(frozen=True)
class UserSession:
    """What Workbench is, for one user."""

    user: User
    store: UserStore
    chat: ChatService
    feedback: FeedbackService
    learning: UserLearning
    sync: UserSync
    comparison: ComparisonService
    progress: ProgressService
    adapter_files: OwnersOnly
    backups: OwnersOnly
    models: OwnersOnly
    demo: OwnersOnly
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
            OwnersOnly(app.adapter_files, user, "carry adapters in and out", ()),
            OwnersOnly(app.backups, user, "see, make or delete backups", ()),
            OwnersOnly(app.models, user, "change the model", ("known",)),
            OwnersOnly(app.demo, user, "run the demonstration", ("view",)),
            app.model,
        )

    def close(self) -> None:
        """End every reply that is being written, and wait until what they have is stored."""
        with self._lock:
            for _, _, chat, _ in self._chats.values():
                chat.close()
