"""Operations on the whole database file: counts, backup while it is in use, restore, erase."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from feedback_store.connection import translated
from feedback_store.errors import StoreError
from feedback_store.login_sessions import Sessions, forget_kept

# What a person said or the model learned, in an order that foreign keys allow. Not the list of migrations, nor what
# login_sessions.py keeps: who is logged in, which requests were used
TABLES = (
    "peers",
    "active_adapters",
    "peer_questions",
    "adapters",
    "neighbours",
    "traces",
    "rounds",
    "events",
    "hints",
    "votes",
    "messages",
    "conversation_choices",
    "conversations",
    "settings",
)


IDS = {"conversations": "SELECT id FROM conversations", "feedback": "SELECT id FROM traces"}


class Upkeep(Sessions):
    """The part of the store for backups, erasing and counts."""

    def counts(self) -> dict[str, dict[tuple[str, ...], int]]:
        """Rows by kind: `conversations`; `messages` by role and kind; `votes` by value; `traces` by side and status;
        `rounds` by status.
        """
        groups = {
            "conversations": ("conversations", ""),
            "messages": ("messages", "role, kind"),
            "votes": ("votes", "value"),
            "traces": ("traces", "side, status"),
            "rounds": ("rounds", "status"),
        }
        found = {}
        with self._transaction(write=False):
            for name, (table, by) in groups.items():
                columns = f"{by}, " if by else ""
                rows = self._rows(f"SELECT {columns}count(*) AS n FROM {table} {f'GROUP BY {by}' if by else ''}")
                found[name] = {tuple(str(v) for k, v in row.items() if k != "n"): row["n"] for row in rows}
        return found

    def ids(self) -> dict[str, set[str]]:
        """Ids of all `conversations`, and of all `feedback` that was or may be trained on."""
        with self._transaction(write=False):
            return {name: {row["id"] for row in self._rows(sql)} for name, sql in IDS.items()}

    def conversation_owners(self) -> set[str]:
        """Ids of the users who own conversations; the empty one where there are some from before there were logins."""
        with self._transaction(write=False):
            return {row["user"] for row in self._rows("SELECT DISTINCT user FROM conversations")}

    def assign_conversations(self, user: str, former: str = "") -> int:
        """Assign all conversations of `former` to `user`; those from before there were logins where it is left out.

        Returns their number.
        """
        with self._transaction(write=True):
            return self._execute("UPDATE conversations SET user = ? WHERE user = ?", [user, former])

    def back_up(self, path: Path) -> None:
        """Copy a consistent state of the store into a new file while others write.

        Raises StoreError where the file exists, and StoreUnavailable where it cannot be written.
        """
        if path.exists():
            raise StoreError(f"{path} is there already; a backup never overwrites")
        try:
            # a connection of its own, so that chat does not wait for the copy
            with closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(path)) as copy:
                source.backup(copy)
                forget_kept(copy)
                copy.commit()
                copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a write-ahead log beside it
        except sqlite3.Error as e:
            raise translated(e, path) from e

    def put_back(self, path: Path) -> None:
        """Replace the contents of this store by a backup, in one transaction. The backup is only read.

        The backup must have the current schema: opening it as a Store migrates it. Raises StoreUnavailable or StoreCorrupt.
        """
        with self._connection.lock:
            kept = self._kept()
            try:
                with closing(sqlite3.connect(path)) as source:
                    source.backup(self._db.conn)
            except sqlite3.Error as e:
                raise translated(e, path) from e
            with self._transaction(write=True):
                self._put_kept(kept)
            if self._connection.log:
                self._connection.log.is_to_be_taken_over()  # it holds a whole database, and no row of it was counted

    def erase(self) -> None:
        """Delete all feedback and everything learned, and overwrite it on the disk as far as SQLite can."""
        with self._connection.lock:
            with self._transaction(write=True):
                self._execute("PRAGMA secure_delete = ON")
                for table in TABLES:
                    self._execute(f"DELETE FROM {table}")
            try:
                with self._connection.alone():  # or the log stays as long as they do, with what was erased in it
                    self._db.execute("VACUUM")
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error as e:
                raise translated(e, self.path) from e
