"""The branch of a conversation that is shown, its sampling settings, and full-text search in messages."""

from __future__ import annotations

import json
from typing import Any

from feedback_store.database import Records, to_json
from feedback_store.folding import folded

MAX_FOUND = 1000
MAX_SOUGHT_CHARACTERS = 1000  # SQLite refuses patterns of more than 50,000 bytes


def _containing(words: str) -> str:
    """The pattern of LIKE for texts that contain these words."""
    escaped = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


class Branches(Records):
    """The part of the store that a conversation with branches needs."""

    def leaf(self, conversation_id: str) -> str | None:
        """Id of the message whose branch is shown; None where no branch was chosen."""
        with self._transaction(write=False):
            leaf: str | None = self._value(
                "SELECT leaf_id FROM conversation_choices WHERE conversation_id = ?", [conversation_id]
            )
        return leaf

    def set_leaf(self, conversation_id: str, message_id: str) -> None:
        """Show the branch of a message. Raises UnknownRecord for an unknown conversation."""
        self._choose(conversation_id, "leaf_id", message_id)

    def sampling(self, conversation_id: str) -> dict[str, Any]:
        """The sampling settings of a conversation; empty where none were chosen."""
        with self._transaction(write=False):
            text = self._value("SELECT sampling FROM conversation_choices WHERE conversation_id = ?", [conversation_id])
            return json.loads(text) if text else {}

    def set_sampling(self, conversation_id: str, sampling: dict[str, Any]) -> None:
        """Set the sampling settings, plain JSON values. Raises UnknownRecord for an unknown conversation."""
        self._choose(conversation_id, "sampling", to_json(sampling))

    def end_unfinished_replies(self) -> int:
        """Mark replies whose writing was interrupted as complete and lost. Returns their number."""
        with self._transaction(write=True):
            return self._execute("UPDATE messages SET complete = 1, ending = 'lost' WHERE complete = 0")

    def conversations_saying(self, words: str, user: str | None = None) -> set[str]:
        """Ids of the newest conversations, of one user or of all, whose title or messages contain `words`, whatever
        their case in any script.
        """
        words = words[:MAX_SOUGHT_CHARACTERS]
        pattern, of_folded = _containing(words), _containing(folded(words) or words.casefold())
        with self._transaction(write=False):
            rows = self._rows(
                "SELECT c.id FROM conversations c WHERE (?3 IS NULL OR c.user = ?3) AND (c.title LIKE ?1 ESCAPE '\\' "
                "OR c.title LIKE ?4 ESCAPE '\\' OR c.folded LIKE ?4 ESCAPE '\\' "
                "OR EXISTS (SELECT 1 FROM messages m WHERE m.conversation_id = c.id AND m.role != 'system' "
                "AND (m.text LIKE ?1 ESCAPE '\\' OR m.text LIKE ?4 ESCAPE '\\' OR m.folded LIKE ?4 ESCAPE '\\'))) "
                "ORDER BY c.seq DESC LIMIT ?2",
                [pattern, MAX_FOUND, user, of_folded],
            )
            return {row["id"] for row in rows}

    def _choose(self, conversation_id: str, column: str, value: str) -> None:
        with self._transaction(write=True):
            self._execute(
                f"INSERT INTO conversation_choices (conversation_id, {column}) VALUES (?, ?) "
                f"ON CONFLICT (conversation_id) DO UPDATE SET {column} = excluded.{column}",
                [conversation_id, value],
            )
