"""The branch of a conversation that is shown, and its sampling settings."""

from __future__ import annotations

import json
from typing import Any

from feedback_store.database import Records, to_json


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

    def _choose(self, conversation_id: str, column: str, value: str) -> None:
        with self._transaction(write=True):
            self._execute(
                f"INSERT INTO conversation_choices (conversation_id, {column}) VALUES (?, ?) "
                f"ON CONFLICT (conversation_id) DO UPDATE SET {column} = excluded.{column}",
                [conversation_id, value],
            )
