"""Run work in a thread that ends with it. No queue, no pool.

torch computes with OpenMP, whose worker threads belong to the thread that started them and live as long as it does. Where
a process has more of them than the machine has processors, they sleep between two operations instead of spinning, and
each parallel operation waits about 60 µs for them to wake up: a fifth of the time of a small model's token. So what
computes now and then, such as the loading of a model or a round of training, does it in a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


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
