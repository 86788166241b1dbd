"""The store as one user sees it: their own conversations and feedback. No passwords, no roles.

Records of other users look like records that do not exist. Methods for the learning, which concern all users, raise an error
here where they would return text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from feedback_store.errors import StoreError, UnknownRecord
from feedback_store.records import Conversation, Event, Hint, Message, NewTrace, Round, Trace
from feedback_store.store import Store
from feedback_store.transfer import Example, Wanted

MINE = "SELECT id FROM conversations WHERE user = ?"


class UserStore(Store):
    """The store of one user. Methods without a docstring do what they do in Store, for the records of this user.

    Args:
        store: of all users; its connection is shared, and closed by it.
        user: the id of the user.

    Raises:
        UnknownRecord: for records of other users, as for records that do not exist.
    """

    def __init__(self, store: Store, user: str) -> None:
        self._connection = store._connection
        self.user = user

    # -- conversations and messages --------------------------------------------------------------------------

    def create_conversation(self, title: str = "", learn: bool = True, user: str = "") -> Conversation:
        """Create a conversation of this user; the argument `user` is ignored."""
        return super().create_conversation(title, learn, self.user)

    def conversation(self, conversation_id: str) -> Conversation:
        found = super().conversation(conversation_id)
        if found.user != self.user:
            raise UnknownRecord(f"no conversation {conversation_id} in the store")
        return found

    def conversations(self, limit: int = 1000, *, search: str = "", after: str | None = None) -> list[Conversation]:
        return self._conversations(limit, search, after, self.user)

    def message(self, message_id: str) -> Message:
        found = super().message(message_id)
        if not self._is_mine(found.conversation_id):
            raise UnknownRecord(f"no message {message_id} in the store")
        return found

    def messages(self, conversation_id: str) -> list[Message]:
        return super().messages(conversation_id) if self._is_mine(conversation_id) else []

    def conversations_that_say(self, text: str, newest: int) -> list[str]:
        """Ids of the user's conversations with a message that is exactly `text`, the `newest` of them, newest first."""
        with self._transaction(write=False):
            rows = self._rows(
                "SELECT c.id FROM messages m INDEXED BY messages_said JOIN conversations c ON c.id = m.conversation_id "
                "WHERE m.role = 'user' AND substr(m.text, 1, 64) = substr(?, 1, 64) AND m.text = ? AND c.user = ? "
                "GROUP BY c.id ORDER BY c.seq DESC LIMIT ?",
                [text, text, self.user, newest],
            )
            return [row["id"] for row in rows]

    def begin_conversation(self, system: str, turns: Sequence[tuple[str, str]], learn: bool) -> Conversation:
        """Create a conversation with a history from elsewhere, (question, answer) pairs, in one transaction.

        The answers are marked as imported (ELSEWHERE), so that they are not taken for the model's own.
        """
        with self._transaction(write=True):
            conversation = self.create_conversation(learn=learn)
            self._add_turns(conversation.id, system, turns)
            return conversation

    def revisions_of(self, first_reply_id: str) -> list[Message]:
        return [m for m in super().revisions_of(first_reply_id) if self._is_mine(m.conversation_id)]

    def corrections_of(self, first_reply_id: str) -> list[Message]:
        return [m for m in super().corrections_of(first_reply_id) if self._is_mine(m.conversation_id)]

    # -- branches --------------------------------------------------------------------------------------------

    def leaf(self, conversation_id: str) -> str | None:
        self.conversation(conversation_id)
        return super().leaf(conversation_id)

    def set_leaf(self, conversation_id: str, message_id: str) -> None:
        self.conversation(conversation_id)
        self.message(message_id)
        super().set_leaf(conversation_id, message_id)

    def sampling(self, conversation_id: str) -> dict[str, Any]:
        self.conversation(conversation_id)
        return super().sampling(conversation_id)

    def set_sampling(self, conversation_id: str, sampling: dict[str, Any]) -> None:
        self.conversation(conversation_id)
        super().set_sampling(conversation_id, sampling)

    # -- votes, hints, events --------------------------------------------------------------------------------

    def votes(self, conversation_id: str) -> dict[str, int]:
        return super().votes(conversation_id) if self._is_mine(conversation_id) else {}

    def vote(self, message_id: str) -> int:
        self.message(message_id)
        return super().vote(message_id)

    def hints_of(self, message_id: str) -> list[Hint]:
        self.message(message_id)
        return super().hints_of(message_id)

    def add_event(self, kind: str, message_id: str | None, data: dict[str, Any]) -> Event:
        if message_id is not None:
            self.message(message_id)
        return super().add_event(kind, message_id, data)

    def events(self, since: int | None = None, kind: str | None = None) -> list[Event]:
        mine = f" AND message_id IN (SELECT id FROM messages WHERE conversation_id IN ({MINE}))"
        return self._events(since, kind, mine, [self.user])

    # -- traces ----------------------------------------------------------------------------------------------

    def add_traces(self, new: Sequence[NewTrace]) -> list[Trace]:
        with self._transaction(write=True):
            for trace in new:
                self.conversation(trace.conversation_id)
            return super().add_traces(new)

    def withdraw_traces(self, subject_id: str) -> tuple[int, int]:
        with self._transaction(write=True):
            self.message(subject_id)
            return super().withdraw_traces(subject_id)

    def traces(self, **wanted: Any) -> list[Trace]:  # the same keywords
        return self._traces(f"+conversation_id IN ({MINE})", [self.user], **wanted)

    def refused_corrections(self, conversation_id: str) -> dict[str, str]:
        return super().refused_corrections(conversation_id) if self._is_mine(conversation_id) else {}

    def latest_feedback(self, base: str, limit: int) -> list[Trace]:
        return self._latest_feedback(base, limit, f" AND +conversation_id IN ({MINE})", [self.user])

    def proof_is_mine(self, round_id: int, question: str) -> bool:
        """Whether this user confirmed every right answer to `question` in the round."""
        with self._transaction(write=False):
            rows = self._rows(
                f"SELECT conversation_id IN ({MINE}) AS mine FROM traces WHERE round_id = ? AND side = 'win' "
                "AND json_extract(prompt, '$[#-1].content') = ?",
                [self.user, round_id, question],
            )
            return bool(rows) and all(row["mine"] for row in rows)

    # -- exports and imports ---------------------------------------------------------------------------------

    def exported_traces(self, wanted: Wanted) -> Iterator[Trace]:
        return super().exported_traces(replace(wanted, user=self.user))

    def exported_records(self, wanted: Wanted) -> Iterator[dict[str, Any]]:
        return super().exported_records(replace(wanted, user=self.user))

    def add_examples(self, examples: Sequence[Example], base: str, user: str = "") -> int:
        return super().add_examples(examples, base, self.user)

    def add_records(self, records: Sequence[dict[str, Any]], user: str | None = None) -> int:
        return super().add_records(records, self.user)

    # -- what the user prefers -------------------------------------------------------------------------------

    def preference(self, name: str, default: Any = None) -> Any:
        return super().preference(f"{self.user}/{name}" if self.user else name, default)

    def set_preference(self, name: str, value: Any) -> None:
        super().set_preference(f"{self.user}/{name}" if self.user else name, value)

    # -- what is about everybody -----------------------------------------------------------------------------

    def unobjected_replies(
        self, limit: int, rng_seed: int, before_utc: str | None = None
    ) -> list[tuple[Message, Message]]:
        raise self._refusal()

    def replay_wins(self, base: str, limit: int, exclude_ids: Collection[str], rng_seed: int) -> list[Trace]:
        raise self._refusal()

    def shareable_wins(self, base: str) -> list[Trace]:
        raise self._refusal()

    def peer_questions(self, base: str, version: int) -> dict[str, tuple[str, ...]]:
        raise self._refusal()

    def latest_feedback_of_others(self, base: str, user: str, limit: int) -> list[Trace]:
        raise self._refusal()

    def newest_subjects(self, base: str, newest: int) -> set[tuple[str, str]]:
        raise self._refusal()

    def keep_neighbours(self, trace_id: str, made: Sequence[dict[str, Any]]) -> None:
        raise self._refusal()

    def kept_neighbours(self, trace_ids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
        raise self._refusal()

    def is_replayed(self, trace_id: str) -> bool:
        raise self._refusal()

    def stands(self, trace_id: str) -> bool:
        raise self._refusal()

    def is_settled(self, trace: Trace) -> bool:
        raise self._refusal()

    def still_claimed(self, round_id: int) -> list[Trace]:
        raise self._refusal()

    def queued_wins(self, base: str, limit: int) -> list[Trace]:
        raise self._refusal()

    def wins_from_memory(self, base: str, user: str, limit: int) -> list[Trace]:
        raise self._refusal()

    def claim_round(
        self, base: str, parent_version: int, only: Collection[str] | None = None, most: int | None = None
    ) -> tuple[Round, list[Trace]] | None:
        raise self._refusal()

    def _refusal(self) -> StoreError:
        return StoreError("what everybody said is not for one user")

    def _is_mine(self, conversation_id: str) -> bool:
        with self._transaction(write=False):
            return bool(
                self._value("SELECT 1 FROM conversations WHERE id = ? AND user = ?", [conversation_id, self.user])
            )
