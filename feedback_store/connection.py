"""The connections to one SQLite file: opening, transactions, flushing, and SQLite's errors in the store's own words."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database

from feedback_store.errors import StoreCorrupt, StoreError, StoreUnavailable, UnknownRecord
from feedback_store.migrations import MIGRATIONS, OVERWRITES_DELETED, known_names
from feedback_store.write_ahead_log import WriteAheadLog

READERS = 6  # connections for reading; the jobs use three of them at most
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_NOT_WRITABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)


def error_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for an error of the Python driver."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def damaged(path: Path, found: str) -> StoreCorrupt:
    """The error for a file that SQLite cannot read; `found` is SQLite's message."""
    return StoreCorrupt(
        f"{path} is damaged or not a database ({' '.join(found.split())}): move it away together with its -wal and -shm "
        "files and restore a backup, or start again without it."
    )


def _unwritable(path: Path, error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"{path} cannot be written ({error}): free some disk space or check the disk.")


def translated(error: sqlite3.Error, path: Path) -> StoreError:
    """The store's error for an error of SQLite. It names the file and what to do."""
    code = error_code(error)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(path, str(error))
    if code in _BUSY:
        return StoreUnavailable(f"{path} is locked by another program ({error}): close that program and try again.")
    if code in _NOT_WRITABLE:
        return StoreUnavailable(
            f"{path} cannot be opened for writing ({error}): check that its folder exists and that you may write there."
        )
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return _unwritable(path, error)
    if code == sqlite3.SQLITE_CONSTRAINT:
        if error.sqlite_errorname == "SQLITE_CONSTRAINT_FOREIGNKEY":
            return UnknownRecord("a conversation, message, round or adapter that this refers to is not in the store")
        return StoreError(f"the store refused this ({error})")
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return StoreError("the store holds texts and numbers, and was given something else")
    return StoreError(f"the store at {path} failed: {error}")


class _Here(threading.local):
    """The state of the current thread."""

    db: Database | None = None  # the connection of its transaction, if it is in one


class Connection:
    """Connections to one file, shared by threads: one that writes, one transaction at a time, and READERS for reading.

    A reader sees what was stored when its transaction began, and waits for no writer. A writer waits for the disk after it
    has released the lock, so that other writers do not wait for its flush.

    Args:
        path: created with its folder where it is missing.
        busy_timeout_seconds: how long a write waits for another process that has the file open.

    Raises:
        StoreUnavailable: the file cannot be opened.
        StoreCorrupt: it is not a database of this program, or is damaged.
    """

    def __init__(self, path: Path | str, *, busy_timeout_seconds: float = 10.0) -> None:
        self.path = Path(path).absolute()
        self.lock = threading.RLock()
        self._closed = threading.Event()
        self._here = _Here()
        self._opened: list[Database] = []
        self.log: WriteAheadLog | None = None
        self._no_readers = threading.Lock()  # while it is held, no read begins
        # used last in, first out, because its pages are in memory
        self._readers: queue.LifoQueue[Database] = queue.LifoQueue()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise StoreUnavailable(
                f"{self.path.parent} cannot be used as a folder ({e.strerror}): choose another data folder."
            ) from e
        try:
            self.db = self._open("rwc", busy_timeout_seconds)
            self._configure(busy_timeout_seconds)
            self._check()
            self.log = WriteAheadLog(
                f"{self.path}-wal", lambda: self._open_beside("rw", busy_timeout_seconds), self.lock
            )
            self._migrate()
            for _ in range(READERS):
                self._readers.put(self._open_beside("ro", busy_timeout_seconds))
        except sqlite3.Error as e:
            self._close_files()
            raise translated(e, self.path) from e
        except OSError as e:
            self._close_files()
            raise _unwritable(self.path, e) from e
        except BaseException:
            self._close_files()
            raise

    def _open(self, mode: str, busy_timeout_seconds: float) -> Database:
        # isolation_level None: the driver begins no transactions, every BEGIN is in `_transaction`
        conn = sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=busy_timeout_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        self._opened.append(Database(conn, execute_plugins=False))
        return self._opened[-1]

    def _open_beside(self, mode: str, busy_timeout_seconds: float) -> Database:
        """A further connection, besides the writing one."""
        db = self._open(mode, busy_timeout_seconds)
        # opens the log at once, because later another file may have this name
        db.execute("SELECT count(*) FROM sqlite_master").fetchall()
        return db

    def _close_files(self) -> None:
        if self.log:
            self.log.close()
        for db in reversed(self._opened):  # the writing connection is closed last and checkpoints the log
            db.close()

    def _configure(self, busy_timeout_seconds: float) -> None:
        deadline = time.monotonic() + busy_timeout_seconds
        while True:
            try:
                mode = self.db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as e:
                # the change to WAL fails at once, without the busy timeout, where two processes open a new file
                if error_code(e) not in _BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        if mode != "wal":
            raise StoreUnavailable(
                f"{self.path} cannot use a write-ahead log (mode {mode!r}): put the data folder on a local disk."
            )
        # a commit writes to the log; `_flush` waits for the disk
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.db.execute("PRAGMA wal_autocheckpoint=0")  # write_ahead_log.py checkpoints instead
        self.db.execute("PRAGMA foreign_keys=ON")
        self.db.execute("PRAGMA secure_delete=ON")  # overwrite deleted content, not only mark it as free

    def _check(self) -> None:
        verdict = self.db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise damaged(self.path, verdict)
        known = known_names()
        newer = [m.name for m in MIGRATIONS.applied(self.db) if m.name not in known]
        if newer:
            raise StoreUnavailable(
                f"{self.path} was written by a newer version of this program ({', '.join(newer)}): update the program."
            )

    def _migrate(self) -> None:
        if MIGRATIONS.pending(self.db):
            with self.transaction(
                write=True
            ):  # where two processes open a new file, the second waits here and has nothing to do
                before = {migration.name for migration in MIGRATIONS.applied(self.db)}
                MIGRATIONS.apply(self.db)
            if before and OVERWRITES_DELETED not in before:
                self.db.execute("VACUUM")  # content deleted by earlier versions is still in free pages

    def close(self) -> None:
        """Close the file once running reads have ended. May be called twice; any later call raises StoreUnavailable."""
        with self.lock:
            self._closed.set()
        if self.log:
            self.log.stop()
        with self.lock, self.alone():
            self._close_files()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep reads and checkpoints away inside. Call it with the lock held, outside of a transaction."""
        assert self.log
        with self.log.left_alone(), self._no_readers:
            readers = [self._readers.get() for _ in range(READERS)]
            try:
                yield
            finally:
                for reader in readers:
                    self._readers.put(reader)

    @contextmanager
    def transaction(self, *, write: bool, flushed: bool = True) -> Iterator[None]:
        """A transaction; inside another one of this thread it is part of that one. Raises the store's errors.

        Args:
            write: take the write lock at the beginning; else only read.
            flushed: wait for the disk at the end.
        """
        here = self._here
        if here.db is not None:
            if write and here.db is not self.db:
                raise RuntimeError("a transaction that began as one that only reads cannot write")
            yield
            return
        with self._of_this_thread(write) as db:
            if self._closed.is_set():
                raise StoreUnavailable(f"the store at {self.path} is closed")
            here.db = db
            try:
                # IMMEDIATE takes the write lock before the first read, so that nothing changes between reading and writing
                db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield
                    db.execute("COMMIT")
                except BaseException:
                    db.rollback()
                    raise
                if write and self.log:
                    self.log.grew(db.conn.total_changes)
            except sqlite3.Error as e:
                raise translated(e, self.path) from e
            except OverflowError as e:
                raise StoreError("a number is larger than the store can hold") from e
            finally:
                here.db = None
        if write and flushed:
            self._flush()

    def _flush(self) -> None:
        """Wait until all commits so far are on the disk. Without the lock, so that others do not wait too."""
        assert self.log  # open as long as writing is possible
        try:
            self.log.flush()
        except OSError as e:
            raise _unwritable(self.path, e) from e

    @contextmanager
    def _of_this_thread(self, write: bool) -> Iterator[Database]:
        """The state of the current thread."""
        if write:
            with self.lock:
                yield self.db
            return
        with self._no_readers:
            reader = self._readers.get()
        try:
            yield reader
        finally:
            self._readers.put(reader)

    @property
    def current(self) -> Database:
        """The connection of this thread's transaction."""
        return self.db if self._here.db is None else self._here.db
