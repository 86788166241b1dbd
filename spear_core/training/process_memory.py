"""Returns memory to the system after a round, which libraries would keep for later.

A round's rows come in hundreds of shapes. For each one oneDNN, with which torch multiplies on the CPU, compiles code, and
keeps it for the last 1,024 of them; so does torch's own layer over it, in each thread. And glibc keeps what was freed
between pieces that are in use. After four corrections of the pocket model that was 309 of 864 MiB; without it a round and
a reply's first token take the same time (docs/LOG.md).

glibc also has a heap of its own for each of many threads, eight a core, and what one of them freed helps no other.
"""

from __future__ import annotations

import ctypes
import os
import sys

KEPT_KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "32"}  # oneDNN's, and torch's above it


HEAPS = 2
_M_ARENA_MAX = -8  # malloc.h
_HEAPS_SET_BY_THE_USER = "MALLOC_ARENA_MAX"


def keep_little() -> None:
    """To be called before the first model runs: all of it is read once. Values set by the user stay; an empty one counts as not set."""
    for name, kept in KEPT_KERNELS.items():
        os.environ[name] = os.environ.get(name) or kept
    glibc = _glibc()
    if glibc is not None and not os.environ.get(_HEAPS_SET_BY_THE_USER):
        glibc.mallopt(_M_ARENA_MAX, HEAPS)


def give_back() -> bool:
    """Return freed memory to the system. False where there is no glibc to ask."""
    glibc = _glibc()
    return glibc is not None and bool(glibc.malloc_trim(0))


def _glibc() -> ctypes.CDLL | None:
    """None on other systems, and with another C library, such as musl: it keeps little."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        found = ctypes.CDLL("libc.so.6")
        return found if hasattr(found, "malloc_trim") and hasattr(found, "mallopt") else None
    except OSError:
        return None
