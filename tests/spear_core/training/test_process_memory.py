"""What a round leaves behind goes back to the system."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report import DEFAULT_MODEL
from spear_core.training.process_memory import HEAPS, KEPT_KERNELS, keep_little

LEFT_MIB = 30  # without the limits it is 240
# Small pieces, of which every hundredth stays: glibc cannot give back by itself what lies between them
HELD = """
import psutil
from spear_core.training.process_memory import give_back

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


def test_few_kernels_are_kept_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEPT_KERNELS:
        monkeypatch.setenv(name, "7")
    keep_little()
    assert {os.environ[name] for name in KEPT_KERNELS} == {"7"}
    for name in KEPT_KERNELS:
        monkeypatch.delenv(name)
    monkeypatch.setenv(next(iter(KEPT_KERNELS)), "")  # as compose files leave it
    keep_little()
    assert {name: os.environ[name] for name in KEPT_KERNELS} == KEPT_KERNELS


# A thread each, in turn: what the earlier one freed, the next one can only use where they share a heap
IN_TURN = """
import sys
import threading
from spear_core.training.process_memory import keep_little

if sys.argv[1] == "little":
    keep_little()
held = []
all_here = threading.Barrier(24)

def work():
    pieces = [bytes(2000) for _ in range(4_000)]  # 8 MB
    held.append(pieces[::100])
    all_here.wait()

threads = [threading.Thread(target=work) for _ in range(24)]
[t.start() for t in threads]
[t.join() for t in threads]
mapped = [line.split() for line in open("/proc/self/maps")]
print(sum(access == "rw-p" and int(where.split("-")[0], 16) % 2**26 == 0 for where, access, *_ in mapped))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks glibc")
def test_threads_share_few_heaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)

    def heaps(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", IN_TURN, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert heaps("little") <= HEAPS < 8 < heaps("many")  # glibc's own lie at multiples of 64 MiB


# Replies in threads and prompts of every length, as chats and rounds make them
MANY_SHAPES = """
import sys
import psutil
from pathlib import Path
from services.settings import Settings
from services.app import open_services
from spear_core.training.process_memory import give_back
from spear_core.inference.rollout import answer_all

bench = open_services(Settings(model=sys.argv[1], data_folder=Path(sys.argv[2]), threads=1), start_jobs=False)
engine, words = bench.engine, "one two three four five six seven eight nine ten".split()

def resident():
    give_back()
    return psutil.Process().memory_info().rss // 2**20

def ask(prompts):
    asked = [[{"role": "user", "content": " ".join(words * 12)[: 4 * n]}] for n in prompts]
    for a in asked:
        answer_all(engine.shared_models.base, engine.loaded.tokenizer, [a], context_tokens=engine.loaded.context_tokens,
                   max_new_tokens=1)

ask(range(1, 20))
before = resident()
ask(range(20, 120))
print(before, resident())
bench.close()
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks glibc")
def test_a_hundred_shapes_more_leave_little_behind(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in KEPT_KERNELS}
    done = subprocess.run(
        [sys.executable, "-c", MANY_SHAPES, DEFAULT_MODEL, str(tmp_path)],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    before, after = map(int, done.stdout.split()[-2:])
    assert after - before < LEFT_MIB
