"""Training stands back while people wait, but not for ever; jobs compute when nobody else wants to."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

import pytest

from services import engine, jobs
from services.engine import Pace
from services.jobs import Jobs
from services.workbench import Workbench


class Clock:
    """Time that passes only where somebody waits for it, and what happens meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pace: Pace) -> None:
        self.now = 100.0
        self.waits: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(pace._quiet, "wait", self._wait)

    def _wait(self, seconds: float) -> None:
        assert seconds > 0
        self.waits.append(seconds)
        self.now += seconds
        self.meanwhile()

    def work(self, pace: Pace, seconds: float) -> float:
        """A piece of work of so many seconds; how long it was kept waiting after it."""
        self.now += seconds
        before = self.now
        pace.give_way()
        return self.now - before


def test_training_rests_twice_its_work_while_somebody_waits_and_not_at_all_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pace = Pace()
    clock = Clock(monkeypatch, pace)
    pace.give_way()
    assert clock.work(pace, 1.0) == 0
    with pace.foreground():
        assert clock.work(pace, 1.0) == pytest.approx(engine.WAIT_PER_WORK)
        assert clock.work(pace, 100.0) == pytest.approx(engine.LONGEST_WAIT_SECONDS)
    assert clock.work(pace, 1.0) == 0, "after a reply training goes on at once"


def test_idle_time_before_a_job_is_no_work_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace()
    clock = Clock(monkeypatch, pace)
    pace.give_way()  # the thread's last job ends
    clock.now += 3.0

    def work() -> float:
        return clock.work(pace, 1.0)

    with pace.foreground():
        assert pace.job(work)() == pytest.approx(engine.WAIT_PER_WORK)


def test_the_scheduled_jobs_begin_their_clocks_anew(bench: Workbench) -> None:
    pace = bench.engine.pace
    for job in bench._jobs._scheduler.get_jobs():
        pace._resumed.at = 0.0
        before = time.monotonic()
        job.func()
        assert pace._resumed.at >= before, job.id


def test_many_short_requests_in_a_row_are_waited_for_as_one_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace()
    clock = Clock(monkeypatch, pace)
    votes = iter(range(4))

    def vote() -> None:
        if next(votes, None) is not None:
            with pace.foreground(brief=True):
                clock.now += 0.001

    pace.give_way()
    clock.now += 1.0  # of work
    vote()
    clock.meanwhile = vote  # another one comes before the moment is over
    before = clock.now
    pace.give_way()
    assert clock.now - before == pytest.approx(4 * engine.QUIET_SECONDS + 3 * 0.001)
    assert clock.work(pace, 1.0) == 0


def test_work_that_would_hold_up_replies_is_done_by_the_last_one_that_ends() -> None:
    pace, done = Pace(), list[str]()
    pace.when_quiet(lambda: done.append("at once"))
    assert done == ["at once"]
    with pace.foreground():
        with pace.foreground(brief=True):
            pace.when_quiet(lambda: done.append("an earlier round's"))
            pace.when_quiet(lambda: done.append("later"))
        assert done == ["at once"]
    assert done == ["at once", "later"]
    with pace.foreground():
        pass
    assert done == ["at once", "later"]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux only")
def test_jobs_stand_back_and_the_thread_that_started_them_does_not() -> None:
    seen: list[int] = []
    done = threading.Event()

    def learn() -> None:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        done.set()

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    scheduled = Jobs(learn, lambda: None, lambda: None, interval_seconds=60, sync_seconds=600)
    scheduled.start()
    try:
        assert done.wait(30)
    finally:
        scheduled.stop()
    assert seen == [jobs.NICENESS]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before == 0
