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
# without the file's times, whose writing would block other writes to the file
to_disk = getattr(os, "fdatasync", os.fsync)
# Changed rows, about four pages each, between checkpoints. When the log starts over, one commit waits for the disk, so this is
# done more rarely than after SQLite's default of 1,000 pages
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
        self._taking = threading.Lock()  # taken after `writing` where both are needed
        self._worker = ThreadPoolExecutor(1, "checkpoint")
        self._taken_rows = 0
        self._is_due = False

    def flush(self) -> None:
        """Wait until the log is on the disk. Does nothing once closed, when all of it is in the database."""
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
        """Note, after a commit and with `writing` held, how many rows all commits have changed."""
        if changed_rows - self._taken_rows >= CHANGED_ROWS:
            self._taken_rows = changed_rows
            self.is_to_be_taken_over()

    def is_to_be_taken_over(self) -> None:
        """Ask for a checkpoint soon, without waiting. Call it with `writing` held."""
        if not self._is_due:
            self._is_due = True
            self._worker.submit(self._take_over)

    def _take_over(self) -> None:
        try:
            if self._checkpoint() > LONG_PAGES:
                with self._writing:
                    self._checkpoint()
        except sqlite3.Error as e:  # the log keeps the content, and the next write reports a full disk
            log.debug("the log was not taken over: %s", e)
        finally:
            self._is_due = False

    def _checkpoint(self) -> int:
        """Checkpoint as far as no reader needs the log. Returns the length of the log in pages."""
        with self._taking:
            ((_, pages, _),) = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return int(pages)

    @contextmanager
    def left_alone(self) -> Iterator[None]:
        """Keep checkpoints away inside. Call it with `writing` held."""
        with self._taking:
            yield

    def stop(self) -> None:
        """Stop checkpointing. Call it after the last write, without `writing` held. May be called twice."""
        self._worker.shutdown()

    def close(self) -> None:
        """Stop, and wait for running flushes. May be called twice."""
        self.stop()
        with self._changed:
            self._changed.wait_for(lambda: not self._flushing)
            if not self._is_closed:
                os.close(self._file)
            self._is_closed = True
