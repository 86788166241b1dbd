"""The file itself: durability, threads, damage, migrations."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

import feedback_store
from feedback_store import Store, StoreCorrupt, StoreError, StoreUnavailable, write_ahead_log
from feedback_store.connection import READERS
from feedback_store.migrations import MIGRATIONS, known_names
from tests.feedback_store.harness import StoreHarness

ROOT = Path(feedback_store.__file__).parents[1]

VOTER = """
import sys
from feedback_store import NewTrace, Store
store = Store(sys.argv[1])
chat = store.create_conversation().id
while True:
    reply = store.add_message(chat, "assistant", "x" * 2000).id
    store.set_vote(reply, 1)
    store.add_traces([NewTrace("win", chat, reply, reply, [], "x", 1.0, "liked", "base")])
    print(reply, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 40])
def test_a_kill_loses_no_acknowledged_vote_and_doubles_none(path: Path, acknowledged: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", VOTER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline().strip() for _ in range(acknowledged)]
        process.send_signal(signal.SIGKILL)
        printed += [line.strip() for line in process.stdout if line.endswith("\n")]
    assert all(len(message_id) == 32 for message_id in printed)
    with Store(path) as store:
        votes = store.votes(store.conversations()[0].id)
        traced = Counter(trace.subject_id for trace in store.traces())
        cast = Counter(event.message_id for event in store.events())
    for message_id in printed:
        assert (votes[message_id], cast[message_id], traced[message_id]) == (1, 1, 1)
    assert len(votes) - len(printed) in (0, 1)  # the one the kill may have caught before it was printed


def test_what_is_written_is_on_the_disk_when_the_call_returns_unless_it_may_wait(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pragmas = {name: store._value(f"PRAGMA {name}") for name in ("journal_mode", "synchronous", "foreign_keys")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1}  # 1 is NORMAL
    log, flushed = Path(f"{path}-wal"), []

    def spy(file: int) -> None:
        assert os.path.sameopenfile(file, opened.fileno())
        flushed.append(log.read_bytes())

    monkeypatch.setattr(write_ahead_log, "to_disk", spy)
    with log.open("rb") as opened:
        store.set_setting("first", "the first word")
        with store.transaction():
            store.set_setting("second", "the second word")
            assert len(flushed) == 1
        with store.transaction(flushed=False):
            store.set_setting("third", "the third word")
        assert [b"the first word" in log for log in flushed] == [True, True]
        assert [b"the second word" in log for log in flushed] == [False, True]
        store.setting("third")
        assert len(flushed) == 2
        store.set_setting("fourth", "the fourth word")
        assert b"the third word" in flushed[2] and b"the fourth word" in flushed[2]


def test_who_waits_for_the_disk_keeps_nobody_else_from_writing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, told = threading.Event(), threading.Event()

    def slow(_: int) -> None:
        waiting.set()
        told.wait(60)

    monkeypatch.setattr(write_ahead_log, "to_disk", slow)
    with ThreadPoolExecutor(2) as pool:
        writer = pool.submit(store.set_setting, "x", "slow")
        assert waiting.wait(60)
        with store.transaction(flushed=False):
            store.set_setting("y", "quick")
        assert (store.setting("x"), store.setting("y")) == ("slow", "quick")
        closing = pool.submit(store.close)
        for future in (writer, closing):
            with pytest.raises(TimeoutError):
                future.result(timeout=0.1)
        told.set()
        assert (writer.result(timeout=60), closing.result(timeout=60)) == (None, None)


def test_a_disk_that_does_not_take_what_was_written_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(write_ahead_log, "to_disk", broken)
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            store.set_setting("x", "y")
    store.set_setting("x", "z")


def test_every_connection_is_of_the_very_file_whatever_becomes_of_its_name(
    store: Store, path: Path, tmp_path: Path
) -> None:
    store.create_conversation()
    for file in list(path.parent.iterdir()):
        file.rename(tmp_path / file.name)
    with Store(path) as another:
        counts = [db.execute("SELECT count(*) FROM conversations").fetchone()[0] for db in store._connection._opened]
        assert counts == [1] * (1 + READERS + 1)  # one writes, one takes over the log
        assert another.conversations() == []


def test_a_read_that_failed_holds_no_moment(store: Store) -> None:
    store.set_setting("x", "old")
    with store.transaction():
        store._execute("INSERT INTO settings (key, value) VALUES ('damaged', CAST(x'ff' AS TEXT))")
    with pytest.raises(StoreError) as kept, store.at_one_moment():
        store._rows("SELECT value FROM settings ORDER BY key = 'damaged'")
    store.set_setting("x", "new")
    assert store.setting("x") == "new", kept


def test_threads_may_share_one_store(store: Store, harness: StoreHarness) -> None:
    talk = harness.talk()

    def write(_: int) -> None:
        store.add_message(talk.conversation_id, "user", "x")
        assert store.messages(talk.conversation_id)[-1].text == "x"

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(60)))
    assert [m.position for m in store.messages(talk.conversation_id)] == list(range(62))


def test_who_reads_waits_for_no_write_and_sees_none_that_is_not_stored(store: Store) -> None:
    store.set_setting("x", "before")
    with ThreadPoolExecutor(1) as another, store.transaction():
        store.set_setting("x", "after")
        assert store.setting("x") == "after"
        assert another.submit(store.setting, "x").result(timeout=60) == "before"
    assert store.setting("x") == "after"


def test_a_transaction_that_only_reads_is_of_one_moment_and_cannot_write(store: Store) -> None:
    store.set_setting("x", "before")
    with ThreadPoolExecutor(1) as another, store.at_one_moment():
        assert store.setting("x") == "before"
        another.submit(store.set_setting, "x", "after").result(timeout=60)
        assert store.setting("x") == "before"
        with pytest.raises(RuntimeError, match="only reads"):
            store.set_setting("x", "mine")
    assert store.setting("x") == "after"


def test_more_readers_than_connections_take_turns(store: Store) -> None:
    transaction, told = threading.Barrier(READERS + 1), threading.Event()

    def read_slowly() -> None:
        with store.at_one_moment():
            transaction.wait(60)
            told.wait(60)

    with ThreadPoolExecutor(READERS + 1) as pool:
        slow = [pool.submit(read_slowly) for _ in range(READERS)]
        transaction.wait(60)
        one_more = pool.submit(store.conversations)
        with pytest.raises(TimeoutError):
            one_more.result(timeout=0.1)
        told.set()
        assert one_more.result(timeout=60) == []
        assert [reader.result(timeout=60) for reader in slow] == [None] * READERS


@pytest.mark.parametrize("ending", ["close", "erase"])
def test_closing_and_erasing_wait_for_those_who_read(store: Store, harness: StoreHarness, ending: str) -> None:
    talk, reading, told = harness.talk(), threading.Event(), threading.Event()

    def read_slowly() -> int:
        with store.at_one_moment():
            before = len(store.messages(talk.conversation_id))
            reading.set()
            told.wait(60)
            return before + len(store.messages(talk.conversation_id))

    with ThreadPoolExecutor(3) as pool:
        slow = pool.submit(read_slowly)
        assert reading.wait(60)
        end = pool.submit(getattr(store, ending))
        with pytest.raises(TimeoutError):
            end.result(timeout=0.1)
        late = pool.submit(store.conversations)
        with pytest.raises(TimeoutError):
            late.result(timeout=0.1)
        told.set()
        assert (slow.result(timeout=60), end.result(timeout=60)) == (4, None)
        if ending == "erase":
            assert late.result(timeout=60) == []
        else:
            with pytest.raises(StoreUnavailable, match="closed"):
                late.result(timeout=60)


def test_many_first_openers_make_one_schema(path: Path) -> None:
    start = threading.Barrier(4)

    def open_and_close(_: int) -> None:
        start.wait(timeout=10)
        Store(path).close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(open_and_close, range(4)))
    with sqlite3.connect(path) as raw:
        names = [row[0] for row in raw.execute("SELECT name FROM _sqlite_migrations ORDER BY id")]
    assert names == sorted(known_names()) and len(names) >= 7


def test_a_first_opener_who_comes_second_waits_for_the_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute, refusals = Database.execute, [1, 1]

    def busy_at_first(self: Database, sql: str, *args: Any) -> sqlite3.Cursor:
        if "journal_mode" in sql and refusals:
            refusals.pop()
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        return execute(self, sql, *args)

    monkeypatch.setattr(Database, "execute", busy_at_first)
    with Store(path) as store:
        assert store.conversations() == [] and refusals == []
    refusals += [1]
    with pytest.raises(StoreUnavailable, match="locked"):
        Store(path, busy_timeout_seconds=-1.0)


def test_what_was_stored_is_there_after_reopening(store: Store, harness: StoreHarness, path: Path) -> None:
    talk = harness.talk()
    talk.add("win")
    adapter = harness.promoted()
    store.set_vote(talk.reply.id, 1)
    store.set_setting("paused", True)
    store.set_setting("paused", False)
    before = (store.conversations(), store.messages(talk.conversation_id), store.traces(), store.events())
    store.close()
    with Store(str(path)) as again:
        assert before == (again.conversations(), again.messages(talk.conversation_id), again.traces(), again.events())
        assert again.vote(talk.reply.id) == 1 and again.adapters(adapter.base) == [adapter]
        assert again.setting("paused", True) is False and again.setting("absent", [1]) == [1]


def test_migrations_applied_twice_are_harmless(store: Store, harness: StoreHarness, path: Path) -> None:
    talk = harness.talk()
    store.close()
    db = Database(path)
    schema = db.schema
    MIGRATIONS.apply(db)
    assert db.schema == schema and len(MIGRATIONS.applied(db)) == len(known_names())
    db.close()
    with Store(path) as again:
        assert again.message(talk.reply.id) == talk.reply


def test_traces_about_an_edit_become_those_about_the_reply_that_it_replaced(
    store: Store, harness: StoreHarness, path: Path
) -> None:
    talk = harness.talk()
    edited = store.add_message(
        talk.conversation_id, "assistant", "Paris", kind="edit", parent_id=talk.question.id, revises_id=talk.reply.id
    )
    (of_reply,), (of_edit,) = talk.add("win"), store.add_traces([replace(talk.trace(), subject_id=edited.id)])
    store.close()
    with sqlite3.connect(path) as raw:
        raw.execute("DELETE FROM _sqlite_migrations WHERE name = 'm017_edits_voted_up'")
    with Store(path) as again:
        assert [t.id for t in again.traces(subject_id=talk.reply.id)] == [of_reply.id, of_edit.id]


def test_a_file_of_a_newer_program_is_left_alone(store: Store, path: Path) -> None:
    store.close()
    with sqlite3.connect(path) as raw:
        raw.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('feedback_store', 'm999_x', '')"
        )
    with pytest.raises(StoreUnavailable, match=r"m999_x.*update the program"):
        Store(path)


def test_a_file_of_garbage_is_named_and_left_as_it_was(path: Path) -> None:
    path.parent.mkdir()
    garbage = os.urandom(20_000)
    path.write_bytes(garbage)
    with pytest.raises(StoreCorrupt) as caught:
        Store(path)
    assert str(path) in str(caught.value) and "move it away" in str(caught.value)
    assert path.read_bytes() == garbage


def test_a_damaged_page_is_found_when_opening(store: Store, harness: StoreHarness, path: Path) -> None:
    harness.talk()
    page_size = store._value("PRAGMA page_size")
    page = store._value("SELECT rootpage FROM sqlite_master WHERE name = 'messages'")
    store.close()  # the log is written back into the file
    content = bytearray(path.read_bytes())
    content[(page - 1) * page_size : page * page_size] = b"\xa5" * page_size
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match="damaged"):
        Store(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreUnavailable, match="choose another data folder") as caught:
        Store(tmp_path / "file" / "data" / "feedback.db")
    assert str(tmp_path / "file" / "data") in str(caught.value)


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be opened") as caught:
        Store(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_locked_file_is_said_to_be_locked(store: Store, path: Path) -> None:
    with Store(path, busy_timeout_seconds=0.05) as other, store._transaction(write=True):
        with pytest.raises(StoreUnavailable, match="locked"):
            other.create_conversation()
        assert other.conversations() == []  # reading goes on
    with Store(path) as later:
        assert later.create_conversation().id


def test_a_closed_store_says_so_and_is_one_file(store: Store, path: Path) -> None:
    store.create_conversation()
    store.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.conversations()
