"""Closing the app in the middle of a round: it ends soon, serves nothing half-learned, and learns it at the next start."""

from __future__ import annotations

import threading

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


def test_closing_while_the_first_preparations_run_says_nothing(open_bench: OpenBench) -> None:
    errors: list[object] = []
    before = threading.excepthook
    threading.excepthook = errors.append
    try:
        open_bench(start_jobs=True).close()
        for thread in threading.enumerate():
            if thread.name == "prepare":
                thread.join(WAIT)
    finally:
        threading.excepthook = before
    assert errors == []
