"""Training stands back while people wait, but not for ever; jobs compute when nobody else wants to."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from services import priority as pacing
from services import scheduler as jobs
from services.app import AppServices
from services.chat import replies
from services.priority import ComputePriority
from services.scheduler import Jobs


class Clock:
    """Time that passes only where somebody waits for it, and what happens meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, priority: ComputePriority) -> None:
        self.now = 100.0
        self.waits: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(priority._quiet, "wait", self._wait)

    def _wait(self, seconds: float) -> None:
        assert seconds > 0
        self.waits.append(seconds)
        self.now += seconds
        self.meanwhile()

    def work(self, priority: ComputePriority, seconds: float) -> float:
        """A piece of work of so many seconds; how long it was kept waiting after it."""
        self.now += seconds
        before = self.now
        priority.give_way()
        return self.now - before


def test_training_rests_twice_its_work_while_somebody_waits_and_not_at_all_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    priority = ComputePriority()
    clock = Clock(monkeypatch, priority)
    priority.give_way()
    assert clock.work(priority, 1.0) == 0
    with priority.foreground():
        assert clock.work(priority, 1.0) == pytest.approx(pacing.WAIT_PER_WORK)
        assert clock.work(priority, 100.0) == pytest.approx(pacing.LONGEST_WAIT_SECONDS)
    assert clock.work(priority, 1.0) == 0, "after a reply training goes on at once"


def test_idle_time_before_a_job_is_no_work_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    priority = ComputePriority()
    clock = Clock(monkeypatch, priority)
    priority.give_way()  # the thread's last job ends
    clock.now += 3.0

    with priority.foreground(), priority.at_work():
        assert clock.work(priority, 1.0) == pytest.approx(pacing.WAIT_PER_WORK)


def test_each_scheduled_job_starts_its_clock_again(app: AppServices, monkeypatch: pytest.MonkeyPatch) -> None:
    priority = app.engine.priority
    at_work, begun = priority.at_work, list[float | None]()

    @contextmanager
    def noted() -> Iterator[None]:
        with at_work():
            begun.append(priority._working.since)  # of the thread that has the job
            yield

    monkeypatch.setattr(priority, "at_work", noted)
    for job in app._jobs._scheduler.get_jobs():
        before = time.monotonic()
        job.func()
        since = begun.pop()
        assert since is not None and since >= before, job.id


def test_many_short_requests_in_a_row_are_waited_for_as_one_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    priority = ComputePriority()
    clock = Clock(monkeypatch, priority)
    votes = iter(range(4))

    def vote() -> None:
        if next(votes, None) is not None:
            with priority.foreground(brief=True):
                clock.now += 0.001

    priority.give_way()
    clock.now += 1.0  # of work
    vote()
    clock.meanwhile = vote  # another one comes before the moment is over
    before = clock.now
    priority.give_way()
    assert clock.now - before == pytest.approx(4 * pacing.QUIET_SECONDS + 3 * 0.001)
    assert clock.work(priority, 1.0) == 0


def test_work_stands_still_in_the_middle_while_something_is_urgent(monkeypatch: pytest.MonkeyPatch) -> None:
    priority = ComputePriority()
    clock = Clock(monkeypatch, priority)

    def stand(after: float) -> float:
        clock.now += after  # of work
        before = clock.now
        priority.step_aside()
        return clock.now - before

    with priority.at_work(), priority.foreground():
        assert stand(0.01) == 0, "a reply whose first words are there is not urgent"
        with priority.urgent():
            assert stand(0.01) == pytest.approx(pacing.ASIDE_SECONDS)
            assert stand(0.01) == 0, "it may not stand still for ever"
            assert stand(1.0) == pytest.approx(1.03 * pacing.WAIT_PER_WORK - pacing.ASIDE_SECONDS)
        assert clock.work(priority, 0.5) == pytest.approx(0.5 * pacing.WAIT_PER_WORK), "what was waited is taken off"
        with priority.urgent():
            assert stand(0.01) == pytest.approx(pacing.ASIDE_SECONDS), "another piece of work"


def test_what_is_urgent_ends_in_the_middle_of_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    priority = ComputePriority()
    clock = Clock(monkeypatch, priority)
    urgent = priority.urgent()
    urgent.__enter__()
    clock.meanwhile = lambda: urgent.__exit__(None, None, None)
    before = clock.now
    with priority.at_work():
        priority.step_aside()
        assert clock.waits == [pytest.approx(pacing.ASIDE_SECONDS)] and clock.now > before
        priority.step_aside()
    assert len(clock.waits) == 1


def test_who_is_on_no_job_never_stands_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    priority = ComputePriority()
    clock = Clock(monkeypatch, priority)
    with priority.urgent():
        priority.step_aside()
        with priority.at_work():
            pass
        priority.step_aside()
    assert not clock.waits
    priority.close()
    priority.step_aside()


def test_who_holds_what_a_reply_may_wait_for_does_not_stand_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    priority = ComputePriority()
    clock = Clock(monkeypatch, priority)
    with priority.at_work(), priority.urgent():
        clock.now += 1.0
        with priority.unbroken():
            priority.step_aside()
            assert not clock.waits
        priority.step_aside()
        assert clock.waits, "afterwards it does"


def test_who_is_about_to_wait_for_people_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    priority = ComputePriority(lambda: told.append("stand still"))
    clock = Clock(monkeypatch, priority)
    with priority.at_work():
        clock.work(priority, 1.0)
        priority.step_aside()
        assert told == [], "nobody is waited for"
        with priority.foreground():
            clock.work(priority, 1.0)
            assert told == ["stand still"]
        assert told == ["stand still"] * 2, "a thread of the server stays, and may never compute again"
        with priority.urgent():
            clock.now += 1.0
            priority.step_aside()
        assert told == ["stand still"] * 3


def test_closing_ends_a_piece_of_work_in_its_middle() -> None:
    priority = ComputePriority()
    with priority.at_work():
        priority.step_aside()
        priority.close()
        with pytest.raises(pacing.Closing):
            priority.step_aside()
    priority.job(priority.step_aside)()  # to a job's thread a quiet end


def test_python_s_lock_changes_hands_sooner_while_something_is_urgent() -> None:
    priority, usual = ComputePriority(), sys.getswitchinterval()
    try:
        with priority.urgent():
            with priority.urgent():
                pass
            assert sys.getswitchinterval() == pytest.approx(pacing.URGENT_SWITCH_SECONDS)
        assert sys.getswitchinterval() == pytest.approx(pacing.SWITCH_SECONDS)
    finally:
        sys.setswitchinterval(usual)


def test_a_reply_is_urgent_until_its_first_text_is_there(app: AppServices, monkeypatch: pytest.MonkeyPatch) -> None:
    priority = app.engine.priority
    seen: list[int] = []

    def growing(*_: object, **__: object) -> Iterator[str]:
        for text in ("Par", "Paris", "Paris."):
            seen.append(priority._urgent)
            yield text

    monkeypatch.setattr(replies, "growing", growing)
    for _ in app.chat.reply(app.chat.new_conversation().id, "What is the capital of France?"):
        pass
    assert seen == [1, 0, 0] and priority._urgent == 0


def test_work_that_would_hold_up_replies_is_done_by_the_last_one_that_ends() -> None:
    priority, done = ComputePriority(), list[str]()
    priority.when_quiet(lambda: done.append("at once"))
    assert done == ["at once"]
    with priority.foreground():
        with priority.foreground(brief=True):
            priority.when_quiet(lambda: done.append("an earlier round's"))
            priority.when_quiet(lambda: done.append("later"))
        assert done == ["at once"]
    assert done == ["at once", "later"]
    with priority.foreground():
        pass
    assert done == ["at once", "later"]


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_each_run_of_a_job_has_a_thread_of_its_own() -> None:
    ran: list[threading.Thread] = []
    scheduled = Jobs(lambda: ran.append(threading.current_thread()), list, list, interval_seconds=60, sync_seconds=600)
    scheduled.start()
    try:
        eventually(lambda: len(ran) == 1 and not ran[0].is_alive())
        scheduled.learn_now()
        eventually(lambda: len(ran) == 2 and not ran[1].is_alive())
    finally:
        scheduled.stop()


def test_what_is_asked_for_while_a_job_runs_is_done_after_it() -> None:
    runs: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def learn() -> None:
        runs.append(1)
        begun.set()
        assert go_on.wait(30)

    scheduled = Jobs(learn, list, list, interval_seconds=600, sync_seconds=600)
    scheduled.start()
    try:
        assert begun.wait(30)
        scheduled.learn_now()
        time.sleep(0.2)  # until the scheduler has refused to run it twice at a time
        assert len(runs) == 1
        go_on.set()
        eventually(lambda: len(runs) == 2)
        time.sleep(0.2)
        assert len(runs) == 2, "and not again and again"
    finally:
        go_on.set()
        scheduled.stop()


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
