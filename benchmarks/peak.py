"""How much memory of its own a process (or a CUDA device) uses, now and at its peak. Page cache does not count."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

SAMPLE_SECONDS = 0.002


@dataclass
class Peak:
    """Bytes above what was in use when the watch began; set when it ends."""

    bytes: int = 0


def release() -> None:
    """Give freed memory back to the system, so that it is not counted as used."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except OSError:  # another libc than glibc keeps what it likes; both sides of a ratio are treated alike
        return


def private_bytes(device: str) -> int:
    """Private memory now: anonymous pages of this process (tensors live there), or what torch holds on the device."""
    release()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        return int(torch.cuda.memory_allocated())
    return _anonymous_bytes()


def _anonymous_bytes() -> int:
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # no procfs: macOS, Windows
    return int(psutil.Process().memory_full_info().uss)


@contextmanager
def watch_peak(device: str) -> Iterator[Peak]:
    """Measure the peak inside, above the level at entry: from torch's allocator on CUDA, else sampled every 2 ms."""
    peak, start = Peak(), private_bytes(device)
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        yield peak
        torch.cuda.synchronize()
        peak.bytes = int(torch.cuda.max_memory_allocated()) - start
        return
    done, highest = threading.Event(), [start]

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            highest[0] = max(highest[0], _anonymous_bytes())

    watcher = threading.Thread(target=sample, name="peak", daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        peak.bytes = max(highest[0], _anonymous_bytes()) - start
