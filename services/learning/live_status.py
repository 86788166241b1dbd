"""The state of the current round, for the status card. Written by the learning job, read by any thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from services.views import Phase
from spear_core.training.trainer import Progress


@dataclass(frozen=True)
class Live:
    """The state of a round; `headline` and `detail` are sentences for a person."""

    phase: Phase
    headline: str
    detail: str
    step: int = 0
    max_steps: int = 0


class LiveStatus:
    """Holds the current state; None while no round runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: Live | None = None

    @property
    def now(self) -> Live | None:
        """The current state; None while no round runs."""
        with self._lock:
            return self._now

    def tell(self, phase: Phase, headline: str, detail: str, *, max_steps: int = 0) -> None:
        """Begin a new phase."""
        with self._lock:
            self._now = Live(phase, headline, detail, max_steps=max_steps)

    def count(self, progress: Progress) -> None:
        """Note that a training step has ended. Ignored while no round runs."""
        with self._lock:
            if self._now:
                self._now = replace(self._now, phase="training", step=progress.step, max_steps=progress.max_steps)

    def clear(self) -> None:
        """Show nothing: the round has ended."""
        with self._lock:
            self._now = None

    @contextmanager
    def telling(self, phase: Phase, headline: str, detail: str) -> Iterator[None]:
        """Show a phase inside the `with` block, and nothing afterwards."""
        self.tell(phase, headline, detail)
        try:
            yield
        finally:
            self.clear()
