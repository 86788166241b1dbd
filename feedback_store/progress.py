"""The votes and revisions of first replies, in order, for the figures of the Learning tab. No shares, no plots."""

from __future__ import annotations

from dataclasses import dataclass

from feedback_store.database import Records, to_record


@dataclass(frozen=True)
class FirstReply:
    """A finished first reply: its vote, and whether a revision of it was asked for and confirmed."""

    vote: int  # 1, -1, or 0 without a vote
    tried: bool
    fixed: bool


class Progress(Records):
    """The part of the store for the progress card."""

    def first_replies(self, limit: int = 1000) -> list[FirstReply]:
        """The newest `limit` first replies, oldest first."""
        with self._transaction(write=False):
            rows = self._rows(
                "SELECT coalesce(v.value, 0) AS vote, "
                "EXISTS (SELECT 1 FROM messages r WHERE r.revises_id = m.id AND r.kind = 'revision') "
                "OR EXISTS (SELECT 1 FROM messages r WHERE r.corrects_id = m.id AND r.verdict = 'better') AS tried, "
                "EXISTS (SELECT 1 FROM messages r WHERE r.revises_id = m.id AND r.verdict = 'better') "
                "OR EXISTS (SELECT 1 FROM messages r WHERE r.corrects_id = m.id AND r.verdict = 'better') AS fixed "
                "FROM messages m LEFT JOIN votes v ON v.message_id = m.id "
                "WHERE m.kind = 'message' AND m.role = 'assistant' AND m.complete = 1 ORDER BY m.rowid DESC LIMIT ?",
                [limit],
            )
            return [to_record(FirstReply, row) for row in reversed(rows)]

    def count_learned(self, base: str) -> int:
        """The number of different prompts whose right answer an adapter of `base` was trained on and that were not undone.

        Of a prompt only the latest right answer counts, and training it again in the background adds nothing.
        """
        with self._transaction(write=False):
            return int(
                self._value(
                    "SELECT count(DISTINCT prompt_key) FROM traces WHERE base = ? AND status = 'trained' AND side = 'win'",
                    [base],
                )
            )
