"""A backup while the app runs, everything put back, everything erased."""

from __future__ import annotations

import io
import sqlite3
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from federation.checks import Limits, Seen, check_freshness
from federation.identity import Identity
from federation.manifest import Manifest
from federation.update import open_update
from feedback_store import Store
from feedback_store.transfer import Wanted
from services.data import backups
from services.peers.published_update import PublishedUpdate
from spear_core.errors import AdapterInvalid, SpearError
from tests.federation.circle import ALPHA, BASE, adapter
from tests.feedback_store.harness import StoreHarness
from tests.blocked_decoder import HeldReplies
from tests.services.harness import ask, correct, wrong_task
from tests.services.conftest import OpenBench


def at_once(change: Callable[[], None]) -> None:
    change()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "some-data"


@pytest.mark.slow
def test_what_was_backed_up_comes_back_with_its_adapter_into_the_running_app(
    open_app: OpenBench, tmp_path: Path
) -> None:
    app = open_app()
    store, folder = app.engine.store, app.engine.data_folder
    task = wrong_task(app)
    reply, _ = correct(app, task)
    app.learning.run_pending()
    said = list(store.exported_records(Wanted()))
    archive = backups.back_up(store, folder, tmp_path / "backup.tar")
    assert archive.stat().st_mode & 0o077 == 0, "for nobody else's eyes"

    backups.erase(store, folder, app.learning.exchange)
    assert app.chat.conversations() == [] == app.learning.adapters()
    assert app.learning.status().phase == "idle" and ask(app, task.question).text == reply.text

    before = backups.restore(store, folder, archive, app.learning.exchange)
    assert before.parent == folder / "backups"
    assert list(store.exported_records(Wanted())) == said
    again = ask(app, task.question)
    assert again.adapter_version == 1 and task.verdict(again.text)
    correct(app, wrong_task(app))
    assert app.learning.run_pending() == 1, "it goes on learning"
    assert open_app().learning.status().adapter_version == 2


def test_a_reply_that_was_being_written_when_the_backup_was_made_is_over_once_it_is_back(open_app: OpenBench) -> None:
    app = open_app()
    store, folder = app.engine.store, app.engine.data_folder
    conversation = app.chat.new_conversation()
    with HeldReplies(app.engine.batching, app.engine.loaded.tokenizer) as held:
        reader = threading.Thread(target=lambda: list(app.chat.reply(conversation.id, "What is an owl?")))
        reader.start()
        held.until(1)
        archive = backups.back_up(store, folder)
    reader.join()
    backups.restore(store, folder, archive, app.learning.exchange)
    reply = app.chat.messages(conversation.id)[-1]
    assert reply.complete and list(app.chat.follow(conversation.id)) == []
    app.feedback.dislike(reply.id)
    assert ask(app, "What is an owl?", conversation.id).text


def test_a_backup_is_of_one_moment_while_others_write(folder: Path) -> None:
    stop = threading.Event()
    with Store(folder / backups.DATABASE) as store:
        harness = StoreHarness(store)

        def write() -> None:
            while not stop.is_set():
                harness.talk().add("win", "lose")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            while len(store.traces()) < 4:
                pass
            archives = [backups.back_up(store, folder) for _ in range(3)]
        finally:
            stop.set()
            writer.join()
        assert backups.backups(folder) == archives[::-1]
        for archive in archives:
            backups.restore(store, folder, archive, at_once)
            counts = store.counts()
            assert counts["traces"]["win", "pending"] == counts["traces"]["lose", "pending"] > 0
            asked, answered = (counts["messages"][role, "message"] for role in ("user", "assistant"))
            assert asked - answered in (0, 1), "the writer may stand between a question and its answer"


def test_erasing_leaves_no_word_in_any_file(folder: Path) -> None:
    with Store(folder / backups.DATABASE) as store:
        StoreHarness(store).talk("What is the zanzibar lighthouse?").add("win", completion="a zanzibar lighthouse")
        store.set_setting("x", "zanzibar")
        store.approve_peer("key", "zanzibar", "")
        for name in ("adapters", "federation"):
            (folder / name / "v1").mkdir(parents=True)
        (folder / "federation" / "v1" / "update").write_text("zanzibar")
        backups.back_up(store, folder)
        files = [p for p in folder.rglob("*") if p.is_file()]
        assert any(b"zanzibar" in p.read_bytes() for p in files)
        backups.erase(store, folder, at_once)
        assert not any(b"zanzibar" in p.read_bytes() for p in folder.rglob("*") if p.is_file())
        assert not (folder / "adapters").exists() and not (folder / "federation").exists()
        assert store.conversations() == [] and store.peers() == []


def test_a_backup_never_overwrites(folder: Path, tmp_path: Path) -> None:
    with Store(folder / backups.DATABASE) as store:
        backups.back_up(store, folder, tmp_path / "once.tar")
        with pytest.raises(SpearError, match="never overwrites"):
            backups.back_up(store, folder, tmp_path / "once.tar")
        with pytest.raises(SpearError, match="cannot be written"):
            backups.back_up(store, folder, Path("/dev/null/there.tar"))


def test_peers_take_what_is_published_after_a_restore(folder: Path) -> None:
    with Store(folder / backups.DATABASE) as store:
        published_update = PublishedUpdate(store, Identity.new(), folder / "federation" / "outbox", BASE, ALPHA)

        def publish(version: int) -> Manifest:
            published_update.publish(version, lambda _: adapter(version), "")
            offer = published_update.latest(version)
            assert offer is not None
            return open_update(offer.path).manifest

        publish(1)
        archive = backups.back_up(store, folder)
        publish(2)
        last = publish(3)
        taken = Seen(last.round, last.created_at_utc)
        before = backups.restore(store, folder, archive, at_once)
        assert check_freshness(publish(1), taken, time.time(), Limits()).round == 4
        backups.restore(store, folder, before, at_once)
        assert publish(3).round == 5, "numbers go on from the larger one"


def test_a_restore_keeps_the_key_and_brings_no_removed_peer_back(folder: Path, tmp_path: Path) -> None:
    key = folder / "federation" / "key.pem"
    key.parent.mkdir(parents=True)
    key.write_text("the old key")
    with Store(folder / backups.DATABASE) as store:
        for name in ("kept", "removed"):
            store.approve_peer(name, name, "")
        archive = backups.back_up(store, folder, tmp_path / "backup.tar")
        key.write_text("the renewed key")
        store.remove_peer("removed")
        backups.restore(store, folder, archive, at_once)
        assert key.read_text() == "the renewed key" and [p.key for p in store.peers()] == ["kept"]
    with Store(tmp_path / "new" / backups.DATABASE) as store:
        backups.restore(store, tmp_path / "new", archive, at_once)
        assert (tmp_path / "new" / "federation" / "key.pem").read_text() == "the old key", "it had none of its own"
        assert [p.key for p in store.peers()] == ["kept", "removed"]


def test_a_backup_is_not_written_into_a_file_that_somebody_else_made(folder: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("")
    (tmp_path / "backup.tar.part").symlink_to(theirs)
    with Store(folder / backups.DATABASE) as store:
        archive = backups.back_up(store, folder, tmp_path / "backup.tar")
    assert theirs.read_text() == "" and not archive.is_symlink()


@pytest.mark.parametrize("elsewhere", ["/etc", "../outside", "adapters", "adapters/../../x/y", "federation/outbox"])
def test_a_folder_that_a_foreign_database_names_is_never_touched(open_app: OpenBench, elsewhere: str) -> None:
    app = open_app()
    harness = StoreHarness(app.engine.store)
    made = replace(harness.adapter(1, 0), base=app.engine.base, folder=elsewhere)
    adapter = app.engine.store.add_adapter(made)
    with pytest.raises(AdapterInvalid, match="not one of the data folder"):
        app.engine.files_of(adapter)


def test_an_archive_with_a_link_is_no_backup(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        link = tarfile.TarInfo("adapters")
        link.type, link.linkname = tarfile.SYMTYPE, "models"
        tar.addfile(link)
    with Store(folder / backups.DATABASE) as store, pytest.raises(SpearError, match="is a link"):
        backups.restore(store, folder, tmp_path / "x.tar", at_once)


@pytest.mark.parametrize("content", [b"", b"not a tar", "other", "evil", "damaged"])
def test_what_is_no_backup_changes_nothing(folder: Path, tmp_path: Path, content: bytes | str) -> None:
    archive = tmp_path / "x.tar"
    archive.write_bytes(content) if isinstance(content, bytes) else make_tar(archive, content)
    with Store(folder / backups.DATABASE) as store:
        talk = StoreHarness(store).talk()
        with pytest.raises(Exception, match=r"backup|damaged") as refusal:
            backups.restore(store, folder, archive, at_once)
        assert "\n" not in str(refusal.value)
        assert store.message(talk.reply.id) == talk.reply
    assert not (tmp_path / "evil").exists() and not list(folder.glob(".restoring*"))


def make_tar(archive: Path, kind: str) -> None:
    names = {"other": "readme.txt", "evil": "../evil", "damaged": backups.DATABASE}
    with tarfile.open(archive, "w") as tar:
        info = tarfile.TarInfo(names[kind])
        info.size = 4
        tar.addfile(info, io.BytesIO(b"evil"))


@pytest.mark.parametrize("name", ["../users.json", "none.tar", "", "/etc/passwd", "a/b.tar", ".hidden.tar", "x" * 9999])
def test_only_a_backup_of_the_folder_can_be_named(folder: Path, name: str) -> None:
    (folder / "backups").mkdir(parents=True)
    with pytest.raises(SpearError, match="There is no backup"):
        backups.find_backup(folder, name)


def test_a_backup_of_an_older_version_is_brought_up_to_date(folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "old" / backups.DATABASE
    with Store(old) as store:
        talk = StoreHarness(store).talk()
    raw = sqlite3.connect(old)
    raw.executescript(
        "DROP INDEX conversations_user; ALTER TABLE conversations DROP COLUMN user; "
        "DELETE FROM _sqlite_migrations WHERE name = 'm005_users'; PRAGMA journal_mode=DELETE;"
    )
    raw.close()
    with tarfile.open(tmp_path / "old.tar", "w") as tar:
        tar.add(old, backups.DATABASE)
    with Store(folder / backups.DATABASE) as store:
        backups.restore(store, folder, tmp_path / "old.tar", at_once)
        assert store.conversation(talk.conversation_id).user == ""


def test_nobody_restores_under_a_running_app(folder: Path) -> None:
    with (
        backups.in_use(folder),
        backups.in_use(folder),
        pytest.raises(SpearError, match="The app is running"),
        backups.in_use(folder, alone=True),
    ):
        pass
    with (
        backups.in_use(folder, alone=True),
        pytest.raises(SpearError, match="being restored or erased"),
        backups.in_use(folder),
    ):
        pass
