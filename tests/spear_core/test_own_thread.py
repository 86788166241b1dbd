"""What computes now and then does so in a thread that ends with it, and takes the threads that torch started along."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from spear_core.own_thread import end_openmp_helpers, in_own_thread


def test_work_is_done_in_another_thread_that_has_ended_then() -> None:
    worked = in_own_thread(threading.current_thread)
    assert worked is not threading.current_thread() and not worked.is_alive()


def test_what_work_raises_is_raised_here() -> None:
    def fail() -> None:
        raise FileNotFoundError("no such model")

    with pytest.raises(FileNotFoundError, match="no such model"):
        in_own_thread(fail)


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def add() -> int:
    """Threads of the process once three of them have computed for this one."""
    torch.set_num_threads(3)
    assert torch.ones(1 << 20).add_(1).sum() == 1 << 21
    return threads()


@pytest.mark.skipif(sys.platform != "linux", reason="counts the threads of the process as Linux lists them")
def test_who_waits_keeps_no_helpers_and_computes_with_others_afterwards() -> None:
    def work() -> tuple[int, int, int]:
        helped = add()
        end_openmp_helpers()
        deadline = time.monotonic() + 30  # they end by themselves
        while (alone := threads()) > helped - 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        again = add()
        end_openmp_helpers()
        return helped, alone, again

    count = torch.get_num_threads()
    try:
        helped, alone, again = in_own_thread(work)
        assert alone <= helped - 2 and again == helped
    finally:
        torch.set_num_threads(count)


@pytest.mark.skipif(sys.platform != "linux", reason="counts the threads of the process as Linux lists them")
def test_threads_of_torch_do_not_pile_up() -> None:
    count, before = torch.get_num_threads(), threads()
    try:
        assert in_own_thread(add) >= before + 3  # its own thread and the two that help it
        for _ in range(6):
            in_own_thread(add)
        deadline = time.monotonic() + 30  # the system removes a thread a moment after Python has joined it
        while threads() > before + 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threads() <= before + 2  # libgomp keeps the last two, asleep
    finally:
        torch.set_num_threads(count)
