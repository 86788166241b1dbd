"""Approved peers, by public key. Keys and updates are checked by the caller."""

from __future__ import annotations

from feedback_store.database import Records, now_utc
from feedback_store.records import Peer


class Peers(Records):
    """The part of the store that federation needs."""

    def peers(self) -> list[Peer]:
        """In the order of their approval."""
        with self._transaction(write=False):
            return self._records(Peer, "SELECT * FROM peers ORDER BY rowid", [])

    def peer(self, key: str) -> Peer:
        """Raises UnknownRecord."""
        with self._transaction(write=False):
            return self._record(Peer, "SELECT * FROM peers WHERE key = ?", [key])

    def approve_peer(self, key: str, name: str, url: str) -> Peer:
        """Approve a key, or tell an approved one's new name and address; what is empty stays as it was."""
        with self._transaction(write=True):
            self._execute(
                "INSERT INTO peers (key, name, url, approved_at_utc) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE "
                "SET name = coalesce(nullif(excluded.name, ''), name), url = coalesce(nullif(excluded.url, ''), url)",
                [key, name, url, now_utc()],
            )
            return self.peer(key)

    def remove_peer(self, key: str) -> None:
        """Nothing of it is remembered, not even what was taken. Nothing happens where it is unknown."""
        with self._transaction(write=True):
            self._execute("DELETE FROM peers WHERE key = ?", [key])

    def note_update(self, key: str, etag: str, seen_round: int, seen_created_at: int) -> bool:
        """Remember the newest update taken from a peer. False where the peer was removed meanwhile."""
        with self._transaction(write=True):
            return bool(
                self._execute(
                    "UPDATE peers SET etag = ?, seen_round = ?, seen_created_at = ? WHERE key = ?",
                    [etag, seen_round, seen_created_at, key],
                )
            )

    def note_pushed(self, key: str, etag: str) -> None:
        """Remember which update of this instance a peer has."""
        with self._transaction(write=True):
            self._execute("UPDATE peers SET pushed_etag = ? WHERE key = ?", [etag, key])

    def note_contact(self, key: str, words: str, *, failed: bool) -> None:
        """How the last contact went, in words; a success ends a row of failures."""
        with self._transaction(write=True):
            self._execute(
                "UPDATE peers SET words = ?, contact_at_utc = ?, failures = iif(?, failures + 1, 0) WHERE key = ?",
                [words, now_utc(), failed, key],
            )
