"""What computes now and then does so in a thread that ends with it, and takes the threads that torch started along."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from spear_core.own_thread import in_own_thread


def test_work_is_done_in_another_thread_that_has_ended_then() -> None:
    worked = in_own_thread(threading.current_thread)
    assert worked is not threading.current_thread() and not worked.is_alive()


def test_what_work_raises_is_raised_here() -> None:
    def fail() -> None:
        raise FileNotFoundError("no such model")

    with pytest.raises(FileNotFoundError, match="no such model"):
        in_own_thread(fail)


@pytest.mark.skipif(sys.platform != "linux", reason="counts the threads of the process as Linux lists them")
def test_no_thread_of_torch_is_left() -> None:
    def threads() -> set[str]:
        return {entry.name for entry in Path("/proc/self/task").iterdir()}

    def multiply() -> set[str]:
        torch.set_num_threads(3)
        torch.ones(512, 512) @ torch.ones(512, 512)
        return threads()

    count, before = torch.get_num_threads(), threads()
    try:
        during = in_own_thread(multiply)
        assert len(during - before) >= 3, os.cpu_count()  # its own thread and the two that help it
        deadline = time.monotonic() + 30  # the system removes a thread a moment after Python has joined it
        while (threads() - before) & during and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not (threads() - before) & during
    finally:
        torch.set_num_threads(count)
