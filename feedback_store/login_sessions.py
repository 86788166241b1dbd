"""Login sessions and used request signatures, kept across restarts. No passwords and no names of cookies.

A session's id is a random value that only the user's browser knows; the store has its SHA-256. Rows of both tables stay
what they are when a backup is put back: a backup must not bring an ended session or a used request to life again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from feedback_store.database import Records
from feedback_store.records import LoginSession

KEPT_TABLES = ("sessions", "used_requests", "known_browsers")  # in no backup, and not replaced by one


class Sessions(Records):
    """The part of the store for logins and signed requests."""

    def sessions(self) -> list[LoginSession]:
        """All login sessions, oldest first."""
        with self._transaction(write=False):
            return self._records(LoginSession, "SELECT * FROM sessions ORDER BY rowid")

    def add_session(self, session: LoginSession) -> None:
        """Store a login session."""
        with self._transaction(write=True):
            self._insert("sessions", vars(session))

    def end_sessions(self, ids: Collection[str]) -> None:
        """Delete sessions; unknown ids are ignored."""
        with self._transaction(write=True):
            for session_id in ids:
                self._execute("DELETE FROM sessions WHERE id_sha256 = ?", [session_id])

    def end_all_sessions(self) -> None:
        """Delete all login sessions."""
        with self._transaction(write=True):
            self._execute("DELETE FROM sessions")

    def known_browsers(self) -> list[tuple[str, str]]:
        """(SHA-256 of the cookie, the user's id), oldest first."""
        with self._transaction(write=False):
            rows = self._rows("SELECT id_sha256, user FROM known_browsers ORDER BY rowid")
            return [(row["id_sha256"], row["user"]) for row in rows]

    def change_known_browsers(self, new: str, user: str, gone: Collection[str]) -> None:
        """Add one known browser and delete others, in one transaction."""
        with self._transaction(write=True):
            self._insert("known_browsers", {"id_sha256": new, "user": user})
            for digest in gone:
                self._execute("DELETE FROM known_browsers WHERE id_sha256 = ?", [digest])

    def used_requests(self) -> list[tuple[str, str, float]]:
        """(public key, nonce, until when it must be known, in seconds since 1970)."""
        with self._transaction(write=False):
            return [(row["key"], row["nonce"], row["until"]) for row in self._rows("SELECT * FROM used_requests")]

    def keep_used_request(self, key: str, nonce: str, until: float, *, now: float) -> None:
        """Store a used request, not flushed: it survives a kill, but maybe not a power cut. Expired ones are deleted."""
        with self._transaction(write=True, flushed=False):
            self._execute("DELETE FROM used_requests WHERE until < ?", [now])
            self._execute("INSERT OR REPLACE INTO used_requests VALUES (?, ?, ?)", [key, nonce, until])

    def _kept(self) -> dict[str, list[dict[str, object]]]:
        return {table: self._rows(f"SELECT * FROM {table}") for table in KEPT_TABLES}

    def _put_kept(self, kept: dict[str, list[dict[str, object]]]) -> None:
        forget_kept(self._db.conn)
        for table, rows in kept.items():
            for row in rows:
                self._insert(table, row)


def forget_kept(db: sqlite3.Connection) -> None:
    """Empty the tables that are not part of backups."""
    for table in KEPT_TABLES:
        db.execute(f"DELETE FROM {table}")
