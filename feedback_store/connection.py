"""One SQLite connection: opening, transactions, errors, and rows to records. Knows nothing of what is stored."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlite_utils import Database

from feedback_store.errors import StoreCorrupt, StoreError, StoreUnavailable, UnknownRecord
from feedback_store.migrations import MIGRATIONS, known_names

R = TypeVar("R")

_JSON_COLUMNS = frozenset({"prompt", "figures", "proof", "data"})
_BOOL_COLUMNS = frozenset({"learn", "complete", "pinned"})
_SURROGATES = re.compile("[\ud800-\udfff]")  # UTF-8, and so SQLite, cannot hold them
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_NOT_WRITABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)


def now_utc() -> str:
    """ISO time in UTC with microseconds, so that text order is time order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def new_id() -> str:
    return uuid.uuid4().hex


def to_json(value: object) -> str:
    # Sorted keys: equal prompts are equal strings. Not ASCII: `clean` must see the surrogates.
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def clean(value: object) -> object:
    """A parameter that SQLite can hold: lone surrogates become U+FFFD; NUL characters stay."""
    return _SURROGATES.sub("\ufffd", value) if isinstance(value, str) else value


@cache
def _reading(cls: type) -> list[tuple[str, Callable[[Any], Any] | None]]:
    """The columns of a record in the order of its fields, and what turns a column's value into the field's."""
    of_column = dict.fromkeys(_JSON_COLUMNS, json.loads) | dict.fromkeys(_BOOL_COLUMNS, bool)
    return [(column.name, of_column.get(column.name)) for column in fields(cls)]


def to_record(cls: type[R], row: Mapping[str, Any]) -> R:
    """Build the record `cls` from the columns that carry its fields' names."""
    return cls(*[row[name] if read is None else read(row[name]) for name, read in _reading(cls)])  # type: ignore[arg-type]


def error_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where the Python driver raised the error itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def translated(error: sqlite3.Error, path: Path) -> StoreError:
    """The store's own error for one of SQLite's, naming the file and what to do."""
    code = error_code(error)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreCorrupt(
            f"{path} is damaged or not a database ({error}): move it away together with its -wal and -shm files "
            "and restore a backup, or start again without it."
        )
    if code in _BUSY:
        return StoreUnavailable(f"{path} is locked by another program ({error}): close that program and try again.")
    if code in _NOT_WRITABLE:
        return StoreUnavailable(
            f"{path} cannot be opened for writing ({error}): check that its folder exists and that you may write there."
        )
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return StoreUnavailable(f"{path} cannot be written ({error}): free some disk space or check the disk.")
    if code == sqlite3.SQLITE_CONSTRAINT:
        if error.sqlite_errorname == "SQLITE_CONSTRAINT_FOREIGNKEY":
            return UnknownRecord("a conversation, message, round or adapter that this refers to is not in the store")
        return StoreError(f"the store refused this ({error})")
    return StoreError(f"the store at {path} failed: {error}")


class Connection:
    """A connection that threads share: one lock, one transaction at a time.

    `path` is created, with its folder, where it is missing. Another process may have the same file open; a write
    waits up to `busy_timeout_seconds` for it. Raises StoreUnavailable or StoreCorrupt.
    """

    def __init__(self, path: Path | str, *, busy_timeout_seconds: float = 10.0) -> None:
        self.path = Path(path).absolute()
        self._lock = threading.RLock()
        self._closed = threading.Event()  # shared with every UserStore on this connection
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise StoreUnavailable(
                f"{self.path.parent} cannot be used as a folder ({e.strerror}): choose another data folder."
            ) from e
        try:
            # isolation_level None: the driver begins nothing by itself, every BEGIN is in `_transaction`
            conn = sqlite3.connect(
                self.path, timeout=busy_timeout_seconds, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as e:
            raise translated(e, self.path) from e
        try:
            self._db = Database(conn, execute_plugins=False)
            self._configure(busy_timeout_seconds)
            self._check()
            self._migrate()
        except sqlite3.Error as e:
            conn.close()
            raise translated(e, self.path) from e
        except BaseException:
            conn.close()
            raise

    def _configure(self, busy_timeout_seconds: float) -> None:
        deadline = time.monotonic() + busy_timeout_seconds
        while True:
            try:
                mode = self._db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as e:
                # Two first openers: the change to WAL fails at once where others wait for the busy timeout
                if error_code(e) not in _BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        if mode != "wal":
            raise StoreUnavailable(
                f"{self.path} cannot use a write-ahead log (mode {mode!r}): put the data folder on a local disk."
            )
        self._db.execute("PRAGMA synchronous=FULL")  # a commit is on the disk before it is acknowledged
        self._db.execute("PRAGMA foreign_keys=ON")

    def _check(self) -> None:
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StoreCorrupt(f"{self.path} is damaged ({verdict}): move it away and restore a backup.")
        known = known_names()
        newer = [m.name for m in MIGRATIONS.applied(self._db) if m.name not in known]
        if newer:
            raise StoreUnavailable(
                f"{self.path} was written by a newer version of this program ({', '.join(newer)}): update the program."
            )

    def _migrate(self) -> None:
        if MIGRATIONS.pending(self._db):
            with self._transaction(write=True):  # the second of two first openers waits here and finds nothing to do
                MIGRATIONS.apply(self._db)

    def close(self) -> None:
        """Close the file. Harmless when closed; any later call raises StoreUnavailable."""
        with self._lock:
            self._closed.set()
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that is written inside is stored as one, or not at all, with one wait for the disk."""
        with self._transaction(write=True):
            yield

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[None]:
        """One transaction; inside another one of this thread it joins that one. SQLite's errors leave translated."""
        with self._lock:
            if self._closed.is_set():
                raise StoreUnavailable(f"the store at {self.path} is closed")
            if self._db.conn.in_transaction:
                yield
                return
            try:
                # IMMEDIATE takes the write lock before the first read: what is read is still true when written
                self._db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield
                    self._db.execute("COMMIT")
                except BaseException:
                    self._db.rollback()
                    raise
            except sqlite3.Error as e:
                raise translated(e, self.path) from e

    def _execute(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run one statement; returns the number of rows it changed."""
        return self._db.execute(sql, [clean(p) for p in params]).rowcount

    def _insert(self, table: str, row: Mapping[str, object]) -> int:
        """Insert one row; returns its integer key where it has one."""
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        cursor = self._db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", [clean(v) for v in row.values()])
        return int(cursor.lastrowid or 0)

    def _rows(self, sql: str, params: Sequence[object] = ()) -> list[dict[str, Any]]:
        # Not Database.query, which opens a savepoint around every SELECT
        cursor = self._db.execute(sql, [clean(p) for p in params])
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def _value(self, sql: str, params: Sequence[object] = ()) -> Any:
        """The first column of the first row, or None."""
        row = self._db.execute(sql, [clean(p) for p in params]).fetchone()
        return None if row is None else row[0]

    def _records(self, cls: type[R], sql: str, params: Sequence[object] = ()) -> list[R]:
        return [to_record(cls, row) for row in self._rows(sql, params)]

    def _record(self, cls: type[R], sql: str, params: Sequence[object]) -> R:
        """The one record that `sql` finds. Raises UnknownRecord."""
        found = self._records(cls, sql, params)
        if not found:
            raise UnknownRecord(f"no {cls.__name__.lower()} {' '.join(map(str, params))} in the store")
        return found[0]
