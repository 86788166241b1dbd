"""The write-ahead log is taken over into the file while everybody goes on, and stays short."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from feedback_store import Store, write_ahead_log
from feedback_store.write_ahead_log import WriteAheadLog

PAGE = 4096
ROWS = 100  # changed, and the log is taken over


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_ahead_log, "CHANGED_ROWS", ROWS)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Held:
    """Takings-over that stand still at their begin until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        checkpoint = WriteAheadLog._checkpoint

        def held(log: WriteAheadLog) -> int:
            with log._taking:
                self.begun.set()
                assert self.go_on.wait(60)
            return checkpoint(log)

        monkeypatch.setattr(WriteAheadLog, "_checkpoint", held)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    takings = Held(monkeypatch)
    yield takings
    takings.go_on.set()


def write(store: Store, rows: int, word: str = "said") -> None:
    for number in range(rows):
        store.set_setting(f"{word} {number}", f"{word} {number}")


def test_nobody_waits_for_the_disk_that_takes_the_log_over(store: Store, path: Path, held: Held) -> None:
    write(store, ROWS)
    assert held.begun.wait(60), "after so many rows the log is taken over"
    write(store, 2 * ROWS, "meanwhile")
    assert store.setting("meanwhile 1") == "meanwhile 1"
    assert b"said 1" not in path.read_bytes()
    held.go_on.set()
    wait_until(lambda: b"meanwhile 1" in path.read_bytes())


def test_no_commit_takes_it_over_itself(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WriteAheadLog, "_take_over", lambda log: None)
    write(store, 20 * ROWS)
    assert Path(f"{path}-wal").stat().st_size > 1000 * PAGE, "SQLite would have done it after 1,000 pages"
    assert b"said 1" not in path.read_bytes()


def test_what_was_put_back_is_taken_over_at_once(store: Store, path: Path, tmp_path: Path) -> None:
    store.set_setting("word", "said before")
    store.back_up(tmp_path / "copy")
    store.put_back(tmp_path / "copy")
    wait_until(lambda: b"said before" in path.read_bytes())


def test_the_log_stays_short_under_writers_who_never_pause(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_ahead_log, "LONG_PAGES", 500)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write, store, 1500, f"writer {number}") for number in range(4)]:
            done.result()
    # without the wait for a moment in which nobody writes: eight pages and more of each of the 6,000 writes
    assert Path(f"{path}-wal").stat().st_size < 10_000 * PAGE


def test_erasing_and_closing_wait_for_it(store: Store, path: Path, held: Held) -> None:
    write(store, ROWS)
    assert held.begun.wait(60)
    with ThreadPoolExecutor(2) as pool:
        erasing = pool.submit(store.erase)
        with pytest.raises(TimeoutError):
            erasing.result(timeout=0.1)
        held.go_on.set()
        erasing.result(timeout=60)
        assert Path(f"{path}-wal").stat().st_size == 0
        held.begun.clear()
        held.go_on.clear()
        write(store, ROWS)
        assert held.begun.wait(60)
        closing = pool.submit(store.close)
        with pytest.raises(TimeoutError):
            closing.result(timeout=0.1)
        held.go_on.set()
        closing.result(timeout=60)
    with Store(path) as again:
        assert again.setting("said 1") == "said 1"


def test_what_a_disk_did_not_let_it_take_over_is_taken_over_later(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def full(log: WriteAheadLog) -> Any:
        failed.set()
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(WriteAheadLog, "_checkpoint", full)
        write(store, ROWS)
        assert failed.wait(60)
        wait_until(lambda: not store._connection.log._is_due)
    assert store.setting("said 1") == "said 1"
    write(store, ROWS, "later")
    wait_until(lambda: b"said 1" in path.read_bytes())
