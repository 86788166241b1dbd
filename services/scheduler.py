"""The scheduler: learning, self-play and syncing at intervals, some also at once when asked. APScheduler; no rules."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    JobEvent,
)
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from spear_core.own_thread import in_own_thread

log = logging.getLogger(__name__)
LEARN, SELF_PLAY, SYNC = "learn", "self-play", "sync"
NICENESS = 10  # of 19: on a full machine a tenth of the share of what people wait for
FIRST_SYNC = timedelta(seconds=2)  # after the start, when the server answers too


def stand_back() -> None:
    """Let this thread, and those that torch starts for it, compute only when replies leave room. Linux has it per thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


class _Scheduler(BackgroundScheduler):
    """Goes on when the clock is set back: left alone it would wait until the times that it had planned come again."""

    _latest = datetime.min.replace(tzinfo=UTC)

    def _process_jobs(self) -> Any:
        now = datetime.now(UTC)
        if now < self._latest:
            for job in self.get_jobs():
                job.modify(next_run_time=now)
        self._latest = now
        return super()._process_jobs()


class Jobs:
    """Runs `learn` every `interval_seconds`, never twice at a time, and now when kicked; `self_play` less often.

    `sync` runs every `sync_seconds`, give or take a tenth, so that peers that started together do not all ask at once.
    Each run has a thread of its own, with the low priority of the scheduler's.
    """

    def __init__(
        self,
        learn: Callable[[], object],
        self_play: Callable[[], object],
        sync: Callable[[], object],
        *,
        interval_seconds: float,
        sync_seconds: float,
    ) -> None:
        self._scheduler = _Scheduler(
            executors={"default": ThreadPoolExecutor(3, pool_kwargs={"initializer": stand_back})},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
        )
        self._asked: set[str] = set()  # ids of jobs that were asked for and have not begun since
        self._scheduler.add_listener(self._report, EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)
        self._scheduler.add_listener(self._ended, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
        now = datetime.now(UTC)
        jobs = {LEARN: learn, SELF_PLAY: self_play, SYNC: sync}
        run = {job_id: partial(self._run, job_id, work) for job_id, work in jobs.items()}
        self._scheduler.add_job(run[LEARN], "interval", seconds=interval_seconds, id=LEARN, next_run_time=now)
        self._scheduler.add_job(run[SELF_PLAY], "interval", seconds=6 * interval_seconds, id=SELF_PLAY)
        jitter = sync_seconds / 10
        self._scheduler.add_job(
            run[SYNC], "interval", seconds=sync_seconds, jitter=jitter, id=SYNC, next_run_time=now + FIRST_SYNC
        )

    def _run(self, job_id: str, work: Callable[[], object]) -> None:
        self._asked.discard(job_id)  # before it looks for work: what is asked for from now on may be too late for it
        in_own_thread(work)

    def start(self) -> None:
        # "maximum number of running instances" is the normal state while a round trains; _report says it at debug level
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._scheduler.start()

    def learn_now(self) -> None:
        """Bring the next run forward to this moment, or to the end of the run under way."""
        self._run_now(LEARN)

    def sync_now(self) -> None:
        """Bring the next sync forward to this moment, or to the end of the sync under way."""
        self._run_now(SYNC)

    def _run_now(self, job_id: str) -> None:
        if self._scheduler.running:
            self._asked.add(job_id)
            self._scheduler.modify_job(job_id, next_run_time=datetime.now(UTC))

    def _ended(self, event: JobEvent) -> None:
        """A job that was asked for while it ran was refused as running twice: it runs again."""
        if event.job_id in self._asked:
            self._run_now(event.job_id)

    def stop(self) -> None:
        """Wait for the runs under way and start no other. They end sooner where the ComputePriority was closed before."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)

    def _report(self, event: JobEvent) -> None:
        if event.code == EVENT_JOB_ERROR:
            log.error("job %s failed: %s", event.job_id, getattr(event, "exception", ""))
        elif event.code == EVENT_JOB_MISSED:
            log.warning("job %s missed its time; it runs at the next one", event.job_id)
        else:
            log.debug("job %s is still running", event.job_id)
