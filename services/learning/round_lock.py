"""The lock under which the model changes. No rounds, no store."""

from __future__ import annotations

import threading
from types import TracebackType


class RoundLock:
    """Held by one thread at a time: for a round, or for what happens between two rounds. Not re-entrant.

    What changes the adapter that serves calls `require`, so that a caller without the lock fails at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: int | None = None  # identifier of the thread

    def acquire(self, timeout_seconds: float = -1) -> bool:
        """Wait for the lock, without a limit by default. False where the time ran out."""
        acquired = self._lock.acquire(timeout=timeout_seconds)
        if acquired:
            self._holder = threading.get_ident()
        return acquired

    def release(self) -> None:
        """Raises RuntimeError where this thread does not hold the lock."""
        self.require()
        self._holder = None
        self._lock.release()

    def require(self) -> None:
        """Raises RuntimeError where this thread does not hold the lock."""
        if self._holder != threading.get_ident():
            raise RuntimeError("the model may be changed only by the thread that holds the round lock")

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
