"""What a round leaves behind goes back to the system."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from spear_core.memory import KEPT_KERNELS, keep_few_kernels

CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
# Small pieces, of which every hundredth stays: glibc cannot give back by itself what lies between them
HELD = """
import psutil
from spear_core.memory import give_back

pieces = [bytes(2000) for _ in range(60_000)]  # 114 MiB
kept = pieces[::100]
full = psutil.Process().memory_info().rss
del pieces
before = psutil.Process().memory_info().rss
assert give_back()
after = psutil.Process().memory_info().rss
print(full // 2**20, before // 2**20, after // 2**20, len(kept))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks glibc")
def test_freed_memory_between_pieces_in_use_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True, cwd=os.getcwd())
    full, before, after, _ = map(int, done.stdout.split())
    assert full - before < 20, "glibc gave it back by itself: this test shows nothing"
    assert before - after > 80


@pytest.mark.parametrize(("set_by_user", "used"), [(None, str(KEPT_KERNELS)), ("7", "7")])
def test_few_kernels_are_kept_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, set_by_user: str | None, used: str
) -> None:
    monkeypatch.delenv(CAPACITY, raising=False)
    if set_by_user:
        monkeypatch.setenv(CAPACITY, set_by_user)
    keep_few_kernels()
    assert os.environ[CAPACITY] == used
