"""Memory that a round leaves behind: held by libraries for later, and of no use to a process that chats meanwhile.

A round's rows come in hundreds of shapes. oneDNN, with which torch multiplies on the CPU, keeps compiled code for the last
1,024 of them, and glibc keeps what was freed between pieces that are still in use. Together that was 340 MiB of 1,055
after six rounds of the pocket model; with this it is as fast without them (docs/RELIABILITY.md).
"""

from __future__ import annotations

import ctypes
import os
import sys

KEPT_KERNELS = 64  # compiled shapes


def keep_few_kernels() -> None:
    """To be called before the first model runs: oneDNN reads it once. A value set by the user stays."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KEPT_KERNELS))


def give_back() -> bool:
    """Return freed memory to the system. False where there is no glibc to ask."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL("libc.so.6").malloc_trim(0))
    except (OSError, AttributeError):  # another C library, such as musl: it keeps little
        return False
