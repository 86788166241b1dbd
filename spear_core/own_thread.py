"""Run work in a thread that ends with it, and end the threads that help a waiting one. No queue, no pool.

torch computes with OpenMP, whose worker threads belong to the thread that started them and live as long as it does. Where
a process has more of them than the machine has processors, they sleep between two operations instead of spinning, and
each parallel operation waits about 60 µs for them to wake up: a fifth of the time of a small model's token. So what
computes now and then, such as the loading of a model or a round of training, does it in a thread of its own. And what
waits in the middle of its work for something more urgent lets its helpers end meanwhile: beside a round of SmolLM2 that
stood still for two thirds of the time, a reply came at 18.5 tokens a second, and at 25.5 without its idle helpers.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
LOADED = Path("/proc/self/maps")  # on Linux, the files that are mapped into this process
OMP_PAUSE_SOFT = 1  # OpenMP 5.0, 3.6: what can be made again is given up


def in_own_thread(work: Callable[[], T]) -> T:
    """What `work` returns, computed in a thread of its own that has ended by then. Raises what it raises.

    An interrupt from the keyboard does not wait for it: the thread is a daemon.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # raised again where it is waited for
            done.set_exception(error)

    thread = threading.Thread(target=run, name="own", daemon=True)
    thread.start()
    try:
        return done.result()
    finally:
        if done.done():
            thread.join()


def end_openmp_helpers() -> None:
    """End the threads that OpenMP keeps for this one. Its next parallel operation starts others, in about a millisecond.

    Does nothing where another OpenMP than GNU's is loaded: that would end the helpers of every thread.
    """
    for pause in _pauses():
        pause(OMP_PAUSE_SOFT)


@functools.cache
def _pauses() -> list[Any]:
    """`omp_pause_resource_all` of each GNU OpenMP library that torch has loaded by now."""
    try:
        files = {line.split(maxsplit=5)[-1].strip() for line in LOADED.read_text().splitlines() if "libgomp" in line}
        return [ctypes.CDLL(file).omp_pause_resource_all for file in sorted(files)]
    except (OSError, AttributeError):  # no Linux, or a library from before OpenMP 5.0
        return []
