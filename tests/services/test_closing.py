"""Closing the app in the middle of a round: it ends soon, serves nothing half-learned, and learns it at the next start."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from services.anchors import HeldAnswers
from services.workbench import Workbench
from tests.services.bench_desk import correct, wrong_task
from tests.services.conftest import OpenBench

WAIT = 60.0


def begin_round(bench: Workbench) -> threading.Event:
    """Set in the middle of training, which then waits until the app is being closed."""
    training, pace = threading.Event(), bench.engine.pace
    give_way = pace.give_way
    told = bench.learning._on_step

    def on_step(progress: object) -> None:
        told(progress)  # type: ignore[arg-type]
        training.set()
        while not pace._is_closing:
            threading.Event().wait(0.01)
        give_way()

    bench.learning._on_step = on_step  # type: ignore[method-assign]
    return training


def test_a_round_under_way_is_given_up_and_trained_anew_after_the_restart(open_bench: OpenBench) -> None:
    bench = open_bench(start_jobs=True)
    training = begin_round(bench)
    task = wrong_task(bench)
    correct(bench, task)
    assert training.wait(WAIT)
    closing = threading.Thread(target=bench.close)
    closing.start()
    closing.join(WAIT)
    assert not closing.is_alive()
    bench = open_bench()
    (round_,) = bench.engine.store.rounds(bench.engine.base)
    assert (round_.status, bench.engine.twins.serving.version) == ("interrupted", 0)
    assert bench.learning.status().pending_wins == 1
    assert bench.learning.run_pending() == 1
    assert bench.engine.twins.serving.version == 1
    assert task.verdict(list(bench.chat.reply(bench.chat.new_conversation(learn=False).id, task.question))[-1].text)


def test_closing_while_the_first_preparations_run_waits_for_them_and_says_nothing(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[object] = []
    reading, jobs_stopped = threading.Event(), threading.Event()
    held_probes = HeldAnswers.probes

    def slow(self: HeldAnswers, *wishes: Any) -> Any:
        reading.set()
        jobs_stopped.wait(WAIT)
        threading.Event().wait(0.5)  # by now the store is closed, unless closing waits for this thread
        return held_probes(self, *wishes)

    monkeypatch.setattr(HeldAnswers, "probes", slow)
    monkeypatch.setattr(threading, "excepthook", errors.append)
    bench = open_bench()  # no jobs: one that waits for the preparations to end would keep the app from closing anyway
    bench._starts_jobs = True
    bench._begin()
    assert reading.wait(WAIT)
    stop_jobs = bench._jobs.stop

    def stop() -> None:
        stop_jobs()
        jobs_stopped.set()

    monkeypatch.setattr(bench._jobs, "stop", stop)
    bench.close()
    assert errors == [] and not any(thread.name == "prepare" for thread in threading.enumerate())
