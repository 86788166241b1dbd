"""Compute priority: training waits while people wait for replies. No model, no storage."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

WAIT_PER_WORK = 2.0  # while replies stream, training rests this many times as long as its last piece of work took
LONGEST_WAIT_SECONDS = 30.0
QUIET_SECONDS = 0.05  # after which nobody is likely to come at once
ASIDE_SECONDS = 0.2  # that a piece of work may stand still in the middle, however short it is
# Every operation of a reply gives up Python's lock for a moment, and a busy thread keeps it for such an interval, 5 ms
# as Python comes. The shorter one serves a reply better, and would halve the votes a minute if it always held.
SWITCH_SECONDS = 0.0002
URGENT_SWITCH_SECONDS = 0.00002


class Closing(Exception):
    """The app is being closed: what is under way is given up, and started over at the next start."""


class _Working(threading.local):
    """What this thread is in the middle of."""

    on_a_job = False
    since: float | None = None  # when it last went back to work
    aside = 0.0  # seconds that it has paused since
    unbroken = False


class ComputePriority:
    """Lets training wait while people do.

    `foreground` and `urgent` stand around what people wait for; `give_way` between two pieces of work, `step_aside` in the
    middle of one.
    """

    def __init__(self, stand_still: Callable[[], None] = lambda: None) -> None:
        """`stand_still` is called in a thread that is about to wait for people, or has ended what they waited for."""
        self._stand_still = stand_still
        self._waited_for = 0
        self._urgent = 0
        self._quiet_since = -math.inf
        self._is_closing = False
        self._later: Callable[[], object] | None = None
        self._quiet = threading.Condition()
        self._working = _Working()

    @contextmanager
    def foreground(self, *, brief: bool = False) -> Iterator[None]:
        """Around a reply that streams. `brief`: around a word that is stored in a moment; others often follow it."""
        with self._quiet:
            self._waited_for += 1
        try:
            yield
        finally:
            self._stand_still()
            with self._quiet:
                self._waited_for -= 1
                if brief:
                    self._quiet_since = time.monotonic()
                later = None if self._waited_for else self._later
                if later:
                    self._later = None
                self._quiet.notify_all()
            if later:
                later()

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Around what takes moments and is looked at, such as a reply's first words: work stands still meanwhile."""
        with self._quiet:
            self._urgent += 1
            if self._urgent == 1:
                sys.setswitchinterval(URGENT_SWITCH_SECONDS)
        try:
            yield
        finally:
            with self._quiet:
                self._urgent -= 1
                if not self._urgent:
                    sys.setswitchinterval(SWITCH_SECONDS)
                self._quiet.notify_all()

    def when_quiet(self, work: Callable[[], object]) -> None:
        """Do a short piece of work when nothing is waited for: now, or by whoever ends what is waited for last."""
        with self._quiet:
            if self._waited_for:
                self._later = work
                return
        work()

    def give_way(self) -> None:
        """Wait until nothing is waited for, but at most WAIT_PER_WORK times as long as this thread's last piece of work.

        So people keep most of the machine, and training, however slow its steps, a third of its time. Many short
        requests in a row, such as a thousand votes a minute, count as one long one. Raises Closing after `close`.
        """
        now = time.monotonic()
        deadline = now + self._room(now)
        if self._waited_for and now < deadline:
            self._stand_still()
        with self._quiet:
            while not self._is_closing and (left := deadline - (now := time.monotonic())) > 0:
                if not self._waited_for and (left := min(left, self._quiet_since + QUIET_SECONDS - now)) <= 0:
                    break
                self._quiet.wait(left)
            if self._is_closing:
                raise Closing
        self._resume()

    def step_aside(self) -> None:
        """In a thread `at_work`, wait while something is urgent: work takes Python's lock again and again.

        For the middle of a piece of work; what is waited here is taken from what `give_way` may wait after it. Raises
        Closing after `close`. In any other thread nothing happens: it may be the urgent one.
        """
        working = self._working
        if not (self._urgent or self._is_closing) or not working.on_a_job or working.unbroken:
            return
        began = time.monotonic()
        deadline = began + max(self._room(began), ASIDE_SECONDS - self._working.aside)
        if self._urgent and began < deadline:
            self._stand_still()
        with self._quiet:
            while self._urgent and not self._is_closing and (left := deadline - time.monotonic()) > 0:
                self._quiet.wait(left)
            if self._is_closing:
                raise Closing
        self._working.aside += time.monotonic() - began

    @contextmanager
    def unbroken(self) -> Iterator[None]:
        """Around what this thread holds a lock for that a reply may wait for: it does not step aside inside."""
        before, self._working.unbroken = self._working.unbroken, True
        try:
            yield
        finally:
            self._working.unbroken = before

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Mark this thread as doing a job inside; Closing ends the job."""
        self._resume()
        self._working.on_a_job = True
        try:
            with suppress(Closing):
                yield
        finally:
            self._working.on_a_job = False

    def job(self, work: Callable[[], object]) -> Callable[[], None]:
        """`work`, to be done by a thread that has nothing else to do."""

        def begin() -> None:
            with self.at_work():
                work()

        return begin

    def close(self) -> None:
        """All work ends at its next `give_way`, who is `at_work` also at the next `step_aside`."""
        with self._quiet:
            self._is_closing = True
            self._quiet.notify_all()

    def _resume(self) -> None:
        self._working.since, self._working.aside = time.monotonic(), 0.0

    def _room(self, now: float) -> float:
        """Seconds that this thread may wait for the piece of work that it has done so far."""
        since, aside = self._working.since, self._working.aside
        worked = 0.0 if since is None else now - since - aside
        return min(WAIT_PER_WORK * max(0.0, worked), LONGEST_WAIT_SECONDS) - aside
