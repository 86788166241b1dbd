"""Whose reply is written next. No model, no storage.

Every reply under way is a loop of Python over one model: many at once share one lock and the same cores, and all of them
come late. So few are written at a time, and the others wait in the order in which they were asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

AT_ONCE = 2  # while one computes, the other's Python runs (benchmarks/load.py)


class Turns:
    """First come, first served, `at_once` at a time; for all users and all ways to ask together."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._free = at_once
        self._lock = threading.Lock()
        # what stops a reply -> what lets it go, oldest first
        self._waiting: dict[threading.Event, threading.Event] = {}

    @contextmanager
    def turn(self, stop: threading.Event) -> Iterator[None]:
        """Wait for this reply's turn, and have it until the block ends. `stop` is what ends the reply: see `skip`."""
        go = threading.Event()
        with self._lock:
            if stop.is_set() or (self._free > 0 and not self._waiting):
                self._free -= 1
                go.set()
            else:
                self._waiting[stop] = go
        go.wait()
        try:
            yield
        finally:
            with self._lock:
                self._free += 1
                while self._waiting and self._free > 0:
                    self._let_go(next(iter(self._waiting)))

    def skip(self, stop: threading.Event) -> None:
        """Call it when `stop` is set: a reply that still waits goes on at once, since there is nothing left to write."""
        with self._lock:
            if stop in self._waiting:
                self._let_go(stop)

    def _let_go(self, stop: threading.Event) -> None:
        self._free -= 1
        self._waiting.pop(stop).set()
