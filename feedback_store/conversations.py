"""Conversations, messages, votes, hints, verdicts and the event log. No traces, no learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feedback_store.database import new_id, now_utc, to_json, to_record
from feedback_store.errors import StoreError
from feedback_store.folding import folded
from feedback_store.proofs import Proofs
from feedback_store.records import ENDINGS, KINDS, ROLES, VERDICTS, Conversation, Event, Hint, Message, require
from feedback_store.sampling import LAST_KEY, WINDOW, content_key, first_key, shuffled
from feedback_store.search import containing

# The condition of the index messages_bare, term for term: the bare model's finished replies to what came first
BARE = "m.position = 1 AND m.role = 'assistant' AND m.kind = 'message' AND m.adapter_version = 0 AND m.complete = 1"

# Question by question in the order of their keys, however often one was asked: its oldest reply without an objection
UNOBJECTED = f"""
    WITH RECURSIVE asked(question_key) AS (
        SELECT min(m.question_key) FROM messages m WHERE {BARE} AND m.question_key BETWEEN ?1 AND ?2
        UNION ALL
        SELECT (
            SELECT min(m.question_key) FROM messages m
            WHERE {BARE} AND m.question_key > asked.question_key AND m.question_key <= ?2
        ) FROM asked WHERE asked.question_key < ?2
    )
    SELECT r.*, r.rowid AS seq FROM asked
    CROSS JOIN messages r ON r.rowid = (
        SELECT m.rowid FROM messages m
        WHERE {BARE} AND m.question_key = asked.question_key AND m.text != '' AND m.created_at_utc < ?3
        AND EXISTS (SELECT 1 FROM conversations WHERE id = m.conversation_id AND learn = 1)
        ORDER BY m.rowid LIMIT 1
    )
    WHERE NOT EXISTS (SELECT 1 FROM messages o WHERE o.objected = 1 AND o.question_key = asked.question_key)
    LIMIT ?4
"""


class Conversations(Proofs):
    """The part of the store that a chat page needs."""

    def create_conversation(self, title: str = "", learn: bool = True, user: str = "") -> Conversation:
        """Create a conversation; `learn` says whether it may be trained on, `user` whose it is."""
        conversation_id = new_id()
        with self._transaction(write=True):
            self._insert(
                "conversations",
                {
                    "id": conversation_id,
                    "title": title,
                    "folded": folded(title),
                    "learn": int(learn),
                    "created_at_utc": now_utc(),
                    "user": user,
                },
            )
            return self.conversation(conversation_id)

    def conversation(self, conversation_id: str) -> Conversation:
        """One conversation. Raises UnknownRecord."""
        with self._transaction(write=False):
            return self._record(Conversation, "SELECT * FROM conversations WHERE id = ?", [conversation_id])

    def conversations(self, limit: int = 1000, *, search: str = "", after: str | None = None) -> list[Conversation]:
        """Conversations, newest first. Raises UnknownRecord for an unknown `after`.

        Args:
            limit: of their number.
            search: only those whose title or messages contain this text, whatever its case in any script.
            after: only those that follow the one with this id in the list, which are older.
        """
        return self._conversations(limit, search, after)

    def _conversations(self, limit: int, search: str, after: str | None, user: str | None = None) -> list[Conversation]:
        """As `conversations`, of one user or of all."""
        conditions, params = ["TRUE"], list[object]()
        if user is not None:
            conditions.append("user = ?")
            params.append(user)
        if search:
            condition, patterns = containing(search)
            conditions.append(condition)
            params += patterns
        with self._transaction(write=False):
            if after is not None:
                self.conversation(after)
                conditions.append("seq < (SELECT seq FROM conversations WHERE id = ?)")
                params.append(after)
            return self._records(
                Conversation,
                f"SELECT * FROM conversations WHERE {' AND '.join(conditions)} ORDER BY seq DESC LIMIT ?",
                [*params, limit],
            )

    def rename_conversation(self, conversation_id: str, title: str) -> Conversation:
        """Raises UnknownRecord."""
        with self._transaction(write=True):
            self._execute(
                "UPDATE conversations SET title = ?, folded = ? WHERE id = ?", [title, folded(title), conversation_id]
            )
            return self.conversation(conversation_id)

    def set_learn(self, conversation_id: str, learn: bool) -> Conversation:
        """Set whether traces of this conversation may be trained. Raises UnknownRecord.

        False returns claimed traces of a running round to pending, where they wait until it is True again.
        """
        with self._transaction(write=True):
            self._execute("UPDATE conversations SET learn = ? WHERE id = ?", [int(learn), conversation_id])
            if not learn:
                self._execute(
                    "UPDATE traces SET status = 'pending', round_id = NULL "
                    "WHERE conversation_id = ? AND status = 'claimed'",
                    [conversation_id],
                )
            return self.conversation(conversation_id)

    def delete_conversation(self, conversation_id: str) -> None:
        """Delete a conversation with its messages, votes and hints. Raises UnknownRecord.

        Its traces that were never trained are deleted too. Those that were are kept without references to it, and withdrawn
        where they were undone. Its events are kept without their data.
        """
        with self._transaction(write=True):
            self.conversation(conversation_id)
            about = "conversation_id = ? OR subject_id IN (SELECT id FROM messages WHERE conversation_id = ?)"
            self._erase_proofs(about, [conversation_id, conversation_id])
            of_it = "(conversation_id = ? OR subject_id IN (SELECT id FROM messages WHERE conversation_id = ?))"
            ids = [conversation_id, conversation_id]
            self._execute(f"DELETE FROM traces WHERE status NOT IN ('trained', 'rolled_back') AND {of_it}", ids)
            self._execute(f"UPDATE traces SET status = 'withdrawn' WHERE status = 'rolled_back' AND {of_it}", ids)
            self._execute(
                "UPDATE events SET data = '{}' WHERE message_id IN (SELECT id FROM messages WHERE conversation_id = ?)",
                [conversation_id],
            )
            self._execute("DELETE FROM conversations WHERE id = ?", [conversation_id])

    def add_message(
        self,
        conversation_id: str,
        role: str,
        text: str,
        *,
        kind: str = "message",
        parent_id: str | None = None,
        revises_id: str | None = None,
        hint: str | None = None,
        adapter_version: int = 0,
        complete: bool = True,
        message_id: str | None = None,
    ) -> Message:
        """Append a message; its position is the next one of the conversation.

        `message_id` may set its id, which must be new. Raises UnknownRecord where the conversation, parent or first
        reply is missing, StoreError for an unknown role or kind.
        """
        require("role", role, ROLES)
        require("kind", kind, KINDS)
        message_id = message_id or new_id()
        with self._transaction(write=True):
            self.conversation(conversation_id)
            referred = {reference: self.message(reference) for reference in (parent_id, revises_id) if reference}
            for reference, message in referred.items():
                if message.conversation_id != conversation_id:
                    raise StoreError(f"message {reference} belongs to another conversation than {conversation_id}")
            question = referred.get(parent_id or "")
            position = self._value(
                "SELECT coalesce(max(position), -1) + 1 FROM messages WHERE conversation_id = ?", [conversation_id]
            )
            row = {
                "id": message_id,
                "conversation_id": conversation_id,
                "position": position,
                "role": role,
                "kind": kind,
                "text": text,
                "parent_id": parent_id,
                "revises_id": revises_id,
                "hint": hint,
                "adapter_version": adapter_version,
                "complete": int(complete),
                "created_at_utc": now_utc(),
                "question_key": content_key(question.text) if question and question.role == "user" else None,
            }
            row["folded"] = folded(text)
            self._insert("messages", row)
            if kind == "edit":
                self.add_event("edit", message_id, {"revises_id": revises_id, "text": text})
            return self.message(message_id)

    def update_message(
        self,
        message_id: str,
        *,
        text: str | None = None,
        complete: bool | None = None,
        adapter_version: int | None = None,
        ending: str | None = None,
        corrects_id: str | None = None,
        hint: str | None = None,
        written: tuple[int, float] | None = None,
    ) -> Message:
        """Change the given fields; `written` (tokens, seconds) is added to the stored values.

        Raises UnknownRecord, and StoreError for an unknown ending.
        """
        require("ending", ending, (None, *ENDINGS))
        with self._transaction(write=True):
            if corrects_id is not None:
                self._execute(
                    "UPDATE messages SET corrects_id = ?, hint = ? WHERE id = ?", [corrects_id, hint, message_id]
                )
            if written is not None:
                self._execute(
                    "UPDATE messages SET tokens = coalesce(tokens, 0) + ?, seconds = coalesce(seconds, 0) + ? WHERE id = ?",
                    [*written, message_id],
                )
            self._execute(
                "UPDATE messages SET text = coalesce(?, text), complete = coalesce(?, complete), "
                "adapter_version = coalesce(?, adapter_version), ending = coalesce(?, ending) WHERE id = ?",
                [text, None if complete is None else int(complete), adapter_version, ending, message_id],
            )
            message = self.message(message_id)
            if text is not None:
                self._execute("UPDATE messages SET folded = ? WHERE id = ?", [folded(text), message_id])
            if text is not None and message.role == "user":
                self._execute(
                    "UPDATE messages SET question_key = ? WHERE parent_id = ?", [content_key(message.text), message_id]
                )
            return message

    def message(self, message_id: str) -> Message:
        """One message. Raises UnknownRecord."""
        with self._transaction(write=False):
            return self._record(Message, "SELECT * FROM messages WHERE id = ?", [message_id])

    def messages(self, conversation_id: str) -> list[Message]:
        """The messages of a conversation by position; empty for an unknown one."""
        with self._transaction(write=False):
            return self._records(
                Message, "SELECT * FROM messages WHERE conversation_id = ? ORDER BY position", [conversation_id]
            )

    def revisions_of(self, first_reply_id: str) -> list[Message]:
        """The revisions and edits of a reply, by position."""
        with self._transaction(write=False):
            return self._records(
                Message,
                "SELECT * FROM messages WHERE revises_id = ? AND kind IN ('revision', 'edit') ORDER BY position",
                [first_reply_id],
            )

    def corrections_of(self, first_reply_id: str) -> list[Message]:
        """The replies to messages that corrected a reply by talking, by position."""
        with self._transaction(write=False):
            return self._records(
                Message, "SELECT * FROM messages WHERE corrects_id = ? ORDER BY position", [first_reply_id]
            )

    def set_verdict(self, message_id: str, verdict: str | None) -> bool:
        """Set the verdict on a revision or a correction; None reopens it. Returns whether that changed something.

        Raises UnknownRecord, and StoreError for another word.
        """
        require("verdict", verdict, (None, *VERDICTS))
        with self._transaction(write=True):
            if self.message(message_id).verdict == verdict:
                return False
            self._execute("UPDATE messages SET verdict = ? WHERE id = ?", [verdict, message_id])
            self.add_event("verdict", message_id, {"verdict": verdict})
            return True

    def set_vote(self, message_id: str, value: int) -> bool:
        """Set a vote: 1 or -1, or 0 to withdraw it. Returns whether that changed something.

        Raises UnknownRecord, and StoreError for another value.
        """
        require("vote", value, (-1, 0, 1))
        with self._transaction(write=True):
            self.message(message_id)
            if self.vote(message_id) == value:
                return False
            self._execute("DELETE FROM votes WHERE message_id = ?", [message_id])
            if value:
                self._insert("votes", {"message_id": message_id, "value": value, "voted_at_utc": now_utc()})
            self.add_event("vote", message_id, {"value": value})
            return True

    def vote(self, message_id: str) -> int:
        """The vote on a message: 1, -1, or 0 where there is none."""
        with self._transaction(write=False):
            return self._value("SELECT value FROM votes WHERE message_id = ?", [message_id]) or 0

    def votes(self, conversation_id: str) -> dict[str, int]:
        """Message id -> 1 or -1, for the messages that have a vote."""
        with self._transaction(write=False):
            rows = self._rows(
                "SELECT v.message_id, v.value FROM votes v JOIN messages m ON m.id = v.message_id "
                "WHERE m.conversation_id = ? ORDER BY m.position",
                [conversation_id],
            )
            return {row["message_id"]: row["value"] for row in rows}

    def add_hint(self, message_id: str, text: str) -> Hint:
        """Append a hint to a reply. Raises UnknownRecord."""
        with self._transaction(write=True):
            self.message(message_id)
            hint_id = self._insert("hints", {"message_id": message_id, "text": text, "created_at_utc": now_utc()})
            self.add_event("hint", message_id, {"text": text})
            return self._record(Hint, "SELECT * FROM hints WHERE id = ?", [hint_id])

    def hints_of(self, message_id: str) -> list[Hint]:
        """The hints on a reply, oldest first."""
        with self._transaction(write=False):
            return self._records(Hint, "SELECT * FROM hints WHERE message_id = ? ORDER BY id", [message_id])

    def add_event(self, kind: str, message_id: str | None, data: dict[str, Any]) -> Event:
        """Append an event to the log; `data` must be plain JSON. Raises UnknownRecord for an unknown message."""
        with self._transaction(write=True):
            event_id = self._insert(
                "events",
                {"kind": kind, "message_id": message_id, "data": to_json(data), "created_at_utc": now_utc()},
            )
            return self._record(Event, "SELECT * FROM events WHERE id = ?", [event_id])

    def events(self, since: int | None = None, kind: str | None = None) -> list[Event]:
        """The log in order of writing; with `since`, only events after that id; with `kind`, only events of that kind."""
        return self._events(since, kind)

    def _events(
        self, since: int | None, kind: str | None, also: str = "", params: Sequence[object] = ()
    ) -> list[Event]:
        """As `events`, with a further condition and its parameters."""
        of_kind = "" if kind is None else " AND kind = ?"
        with self._transaction(write=False):
            return self._records(
                Event,
                f"SELECT * FROM events WHERE id > ?{of_kind}{also} ORDER BY id",
                [since or 0, *([] if kind is None else [kind]), *params],
            )

    def unobjected_replies(
        self, limit: int, rng_seed: int, before_utc: str | None = None
    ) -> list[tuple[Message, Message]]:
        """(user message, reply) pairs for anchors: replies of the base model without negative feedback.

        They are complete, non-empty replies to a conversation's first message, in conversations that may train, without a
        thumbs-down, revision or edit. A question with negative feedback anywhere is left out, because an anchor on it
        would work against its correction. A repeated question counts once, with its oldest such reply.

        Args:
            limit: of the pairs. Where there are more, a seeded choice; of more than WINDOW questions, of those whose keys
                follow the seed's (sampling.py).
            rng_seed: of the choice.
            before_utc: only replies before this ISO time.
        """
        start, size = first_key(rng_seed), max(limit, WINDOW)
        with self._transaction(write=False):
            found: list[dict[str, Any]] = []
            for lowest, highest in ((start, LAST_KEY), (-LAST_KEY - 1, start - 1)):
                found += self._rows(UNOBJECTED, [lowest, highest, before_utc or "9999", size - len(found)])
            found.sort(key=lambda row: row["seq"])
            chosen = shuffled(found, limit, rng_seed)
            questions = self._records(
                Message,
                "SELECT * FROM messages WHERE id IN (SELECT value FROM json_each(?))",
                [to_json([row["parent_id"] for row in chosen])],
            )
            asked = {question.id: question for question in questions}
            return [(asked[row["parent_id"]], to_record(Message, row)) for row in chosen]
