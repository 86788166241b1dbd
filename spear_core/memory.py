"""Memory that a round leaves behind: held by libraries for later, and of no use to a process that chats meanwhile.

A round's rows come in hundreds of shapes. For each one oneDNN, with which torch multiplies on the CPU, compiles code, and
keeps it for the last 1,024 of them; so does torch's own layer over it, in each thread. And glibc keeps what was freed
between pieces that are in use. After four corrections of the pocket model that was 309 of 864 MiB; without it a round and
a reply's first token take the same time (docs/RELIABILITY.md).
"""

from __future__ import annotations

import ctypes
import os
import sys

KEPT_KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "32"}  # oneDNN's, and torch's above it


def keep_few_kernels() -> None:
    """To be called before the first model runs: both are read once. Values set by the user stay."""
    for name, kept in KEPT_KERNELS.items():
        os.environ.setdefault(name, kept)


def give_back() -> bool:
    """Return freed memory to the system. False where there is no glibc to ask."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL("libc.so.6").malloc_trim(0))
    except (OSError, AttributeError):  # another C library, such as musl: it keeps little
        return False
