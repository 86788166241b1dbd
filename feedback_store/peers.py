"""Approved peers, by public key. Keys and updates are checked by the caller."""

from __future__ import annotations

from feedback_store.database import Records, now_utc
from feedback_store.records import Peer


class Peers(Records):
    """The part of the store for federation."""

    def peers(self) -> list[Peer]:
        """All approved peers in the order of their approval."""
        with self._transaction(write=False):
            return self._records(Peer, "SELECT * FROM peers ORDER BY rowid", [])

    def peer(self, key: str) -> Peer:
        """One peer. Raises UnknownRecord."""
        with self._transaction(write=False):
            return self._record(Peer, "SELECT * FROM peers WHERE key = ?", [key])

    def approve_peer(self, key: str, name: str, url: str) -> Peer:
        """Approve a key, or change the name and address of an approved one; empty values change nothing."""
        with self._transaction(write=True):
            self._execute(
                "INSERT INTO peers (key, name, url, approved_at_utc) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE "
                "SET name = coalesce(nullif(excluded.name, ''), name), url = coalesce(nullif(excluded.url, ''), url)",
                [key, name, url, now_utc()],
            )
            return self.peer(key)

    def remove_peer(self, key: str) -> None:
        """Delete a peer with everything about it. An unknown one is ignored."""
        with self._transaction(write=True):
            self._execute("DELETE FROM peers WHERE key = ?", [key])

    def note_update(self, key: str, etag: str, seen_round: int, seen_created_at: int) -> bool:
        """Store which update was taken from a peer last. False where the peer was removed meanwhile."""
        with self._transaction(write=True):
            return bool(
                self._execute(
                    "UPDATE peers SET etag = ?, seen_round = ?, seen_created_at = ? WHERE key = ?",
                    [etag, seen_round, seen_created_at, key],
                )
            )

    def note_pushed(self, key: str, etag: str) -> None:
        """Store which update of this instance a peer has."""
        with self._transaction(write=True):
            self._execute("UPDATE peers SET pushed_etag = ? WHERE key = ?", [etag, key])

    def note_contact(self, key: str, words: str, *, failed: bool) -> None:
        """Store how the last contact went, in words; a success resets the count of failures."""
        with self._transaction(write=True):
            self._execute(
                "UPDATE peers SET words = ?, contact_at_utc = ?, failures = iif(?, failures + 1, 0) WHERE key = ?",
                [words, now_utc(), failed, key],
            )
