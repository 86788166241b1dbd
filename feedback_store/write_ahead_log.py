"""Flushing and checkpointing the write-ahead log of one SQLite file. Knows no tables.

By default SQLite checkpoints inside a commit, and all writers wait for the disk, which may take a second. Here a separate
thread does it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from sqlite_utils import Database

log = logging.getLogger(__name__)
# The file's times need not be on the disk; and while they are written, nobody can write into the file
to_disk = getattr(os, "fdatasync", os.fsync)
# Since the log was last taken over; four pages each, about. When it starts over, one commit must wait for the disk: so
# more rarely than after the 1,000 pages that are SQLite's habit
CHANGED_ROWS = 4000
# Who writes all the while leaves no moment in which the log is empty and can start over; from here on they wait for one
LONG_PAGES = 32_000


class WriteAheadLog:
    """`open_database` gives a connection of its own; `writing` is held by whoever writes."""

    def __init__(self, path: str, open_database: Callable[[], Database], writing: threading.RLock) -> None:
        self._db = open_database()
        self._file = os.open(path, os.O_RDWR)
        self._changed = threading.Condition()
        self._flushing = 0
        self._is_closed = False
        self._writing = writing
        self._taking = threading.Lock()  # after `writing`, where both are taken
        self._worker = ThreadPoolExecutor(1, "checkpoint")
        self._taken_rows = 0
        self._is_due = False

    def flush(self) -> None:
        """Wait until what is in it is on the disk. Harmless when closed: all of it is in the database by then."""
        with self._changed:
            if self._is_closed:
                return
            self._flushing += 1
        try:
            to_disk(self._file)
        finally:
            with self._changed:
                self._flushing -= 1
                self._changed.notify_all()

    def grew(self, changed_rows: int) -> None:
        """After a commit, still as the one who writes: rows that all commits together have changed by now."""
        if changed_rows - self._taken_rows >= CHANGED_ROWS:
            self._taken_rows = changed_rows
            self.is_to_be_taken_over()

    def is_to_be_taken_over(self) -> None:
        """Soon, and nobody waits for it. For the one who writes."""
        if not self._is_due:
            self._is_due = True
            self._worker.submit(self._take_over)

    def _take_over(self) -> None:
        try:
            if self._checkpoint() > LONG_PAGES:
                with self._writing:
                    self._checkpoint()
        except sqlite3.Error as e:  # the log keeps what the file does not take; who writes hears of a full disk
            log.debug("the log was not taken over: %s", e)
        finally:
            self._is_due = False

    def _checkpoint(self) -> int:
        """Let the file take over what nobody reads in the log any more. Returns the log's length in pages."""
        with self._taking:
            ((_, pages, _),) = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return int(pages)

    @contextmanager
    def left_alone(self) -> Iterator[None]:
        """Nothing is taken over inside. For the one who writes."""
        with self._taking:
            yield

    def stop(self) -> None:
        """Take nothing over any more. When nobody writes any more, and not as the one who writes. Harmless when stopped."""
        self._worker.shutdown()

    def close(self) -> None:
        """Stop, and wait for those who flush. Harmless when closed."""
        self.stop()
        with self._changed:
            self._changed.wait_for(lambda: not self._flushing)
            if not self._is_closed:
                os.close(self._file)
            self._is_closed = True
