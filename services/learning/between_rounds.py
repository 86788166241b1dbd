"""What changes the model waits here for the end of a running round, and the learning job makes way for it. No rounds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.learning.round_lock import RoundLock
from spear_core.errors import SpearError

ROUND_WAIT_SECONDS = 60.0


class RoundUnderWay(SpearError):
    """A request that has to wait for the end of a round."""


class BetweenRounds:
    """Lets callers in between two rounds, before the next one begins.

    The job looks at `is_wanted` after each round and calls `stand_back` where it stops for a caller with something left to
    learn; `on_left` is called when that caller is done.
    """

    def __init__(self, lock: RoundLock, on_left: Callable[[], object]) -> None:
        self._lock = lock
        self._on_left = on_left
        self._waiting = 0  # how many callers wait for the end of the running round
        self._count_lock = threading.Lock()
        self._stood_back = False

    @property
    def is_wanted(self) -> bool:
        """Whether a caller waits."""
        return self._waiting > 0

    def begin_job(self) -> None:
        """Note that the job runs again. Needs the round lock."""
        self._stood_back = False

    def stand_back(self) -> None:
        """Note that the job stopped for a caller with something left to learn. Needs the round lock."""
        self._stood_back = True

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the round lock, so that nothing else changes the model. Raises RoundUnderWay where a round does not end in time."""
        with self._count_lock:
            self._waiting += 1
        try:
            is_free = self._lock.acquire(ROUND_WAIT_SECONDS)
        finally:
            with self._count_lock:
                self._waiting -= 1
        if not is_free:
            raise RoundUnderWay("A correction is being learned right now; try again when it is done.")
        try:
            yield
        finally:
            stood_back = self._stood_back
            self._lock.release()
            if stood_back:
                self._on_left()
