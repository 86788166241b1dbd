"""A disk that refuses, is read-only or damaged: one clear sentence, the last good state serving, nothing overwritten."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.old_schema import EARLIER, complaints_about, write_old_database
from feedback_store import RoundFigures, Store, StoreCorrupt, StoreError
from services.app import DATABASE, AppServices
from services.data import backups
from spear_core.errors import ConfigError
from tests.faults.mounts import contents, mounted, one_sentence
from tests.faults.quick import open_quick, teach
from tests.services.conftest import ROOT
from tests.services.harness import ask

QUESTION, ANSWER = "What is an owl?", "a bird"


# -- refused by the store, whatever the reason -----------------------------------------------------------------


@pytest.mark.parametrize("act", ["like", "dislike", "better", "still_wrong", "edit"])
def test_a_word_is_stored_with_its_traces_or_not_at_all(tmp_path: Path, act: str) -> None:
    app = open_quick(tmp_path / "data")
    reply = ask(app, QUESTION)
    revision = list(app.chat.revise(reply.id, ""))[-1]
    app.feedback.clear_vote(reply.id)
    with app.engine.store.transaction():  # the tiny model's replies are cut off, and a cut reply makes no trace
        app.engine.store._execute("UPDATE messages SET ending = 'ended' WHERE role = 'assistant'")
    refuse(app, "BEFORE INSERT ON traces")
    words = {
        "like": lambda: app.feedback.like(reply.id),
        "dislike": lambda: app.feedback.dislike(reply.id),
        "better": lambda: app.feedback.better(revision.id),
        "still_wrong": lambda: app.feedback.still_wrong(revision.id),
        "edit": lambda: app.feedback.edit(reply.id, ANSWER),
    }
    shown = [(m.id, m.vote, m.verdict) for m in app.chat.messages(reply.conversation_id)]
    with pytest.raises(StoreError):
        words[act]()
    assert [(m.id, m.vote, m.verdict) for m in app.chat.messages(reply.conversation_id)] == shown
    app.close()


def test_a_reply_that_cannot_be_stored_does_not_block_its_conversation(tmp_path: Path) -> None:
    app = open_quick(tmp_path / "data")
    conversation = app.chat.new_conversation().id
    refuse(app, "BEFORE UPDATE OF text ON messages")
    with pytest.raises(StoreError):
        ask(app, QUESTION, conversation)
    allow(app)
    assert ask(app, QUESTION, conversation).complete
    app.close()


def refuse(app: AppServices, what: str) -> None:
    with sqlite3.connect(app.engine.data_folder / DATABASE) as raw:
        raw.execute(f"CREATE TRIGGER refuse {what} BEGIN SELECT RAISE(ABORT, 'refused'); END")


def allow(app: AppServices) -> None:
    with sqlite3.connect(app.engine.data_folder / DATABASE) as raw:
        raw.execute("DROP TRIGGER refuse")


# -- read-only -------------------------------------------------------------------------------------------------


def test_a_read_only_data_folder_is_one_sentence_and_nothing_changes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    app = open_quick(data)
    teach(app, QUESTION, ANSWER)
    app.close()
    before = contents(data)
    with mounted(tmp_path / "locked", "--bind", "-o", "ro", str(data)) as locked:
        with pytest.raises(ConfigError, match="cannot be written.*choose another") as caught:
            open_quick(locked)
        one_sentence(caught.value)
    assert contents(data) == before


# -- the database ----------------------------------------------------------------------------------------------


def test_a_damaged_page_is_named_nothing_is_overwritten_and_the_backup_brings_everything_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    app = open_quick(data)
    teach(app, QUESTION, ANSWER)
    app.learning.run_pending()
    archive = backups.back_up(app.engine.store, data, tmp_path / "backup.tar")
    app.close()
    database = data / DATABASE
    with sqlite3.connect(database) as raw:
        page_size = raw.execute("PRAGMA page_size").fetchone()[0]
        page = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'").fetchone()[0]
    raw.close()
    content = bytearray(database.read_bytes())
    content[(page - 1) * page_size : page * page_size] = b"\xa5" * page_size
    database.write_bytes(content)
    before = contents(data)
    with pytest.raises(StoreCorrupt, match="damaged.*move it away.*restore a backup") as caught:
        open_quick(data)
    one_sentence(caught.value)
    after = contents(data)
    assert {name: after[name] for name in before} == before

    for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):  # what the sentence says
        (data / name).unlink(missing_ok=True)
    with Store(database) as store:
        backups.restore(store, data, archive, lambda change: change())
    app = open_quick(data)
    assert app.learning.lineage.version == 1 and ask(app, QUESTION).text == ANSWER
    app.close()


@pytest.mark.slow
@pytest.mark.parametrize("level", EARLIER)
def test_a_database_of_every_earlier_schema_opens_with_all_that_was_said_and_goes_on(
    tmp_path: Path, level: int
) -> None:
    base = open_quick(tmp_path / "other").engine.base
    data = tmp_path / "data"
    write_old_database(data / DATABASE, level, 20, base)
    app = open_quick(data)
    shown = app.chat.messages("c3")
    assert [(m.text, m.vote) for m in shown] == [("Capital of France?", 0), ("Lyon", -1)]
    assert complaints_about(data / DATABASE, level, 20) == []
    assert ask(app, "And of Italy?", "c3").complete and app.chat.messages("c3")[0].id == "q3"
    app.feedback.edit("r3", "Paris")
    assert app.learning.run_pending() == 1 and app.learning.lineage.version == 1
    app.close()


# -- adapters --------------------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A data folder with three versions, of which the last serves."""
    app = open_quick(tmp_path / "data")
    with app.learning.between_rounds():
        for _ in range(3):
            app.learning.lineage.adopt(app.engine.shared_models.initial, RoundFigures())
    app.close()
    return tmp_path / "data"


def damage(data: Path, version: int, how: str) -> None:
    [folder] = (data / "adapters").glob(f"*/v{version:05d}")
    weights = folder / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    match how:
        case "truncated":
            weights.write_bytes(content[: len(content) // 2])
        case "emptied":
            weights.write_bytes(b"")
        case "bit-flipped":
            content[-1] ^= 1
            weights.write_bytes(content)
        case "missing":
            weights.unlink()
        case "its folder missing":
            shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["truncated", "emptied", "bit-flipped", "missing", "its folder missing"])
def test_a_damaged_adapter_is_passed_over_said_and_kept(three: Path, how: str) -> None:
    damage(three, 3, how)
    before = contents(three / "adapters")
    app = open_quick(three)
    assert app.engine.shared_models.serving.version == app.learning.lineage.version == 2
    status = app.learning.status()
    assert (
        status.phase == "failed" and "v00003" in status.detail and "Serving v2 instead" in one_sentence(status.detail)
    )
    assert ask(app, QUESTION).complete and contents(three / "adapters") == before
    teach(app, QUESTION, ANSWER)
    app.learning.run_pending()
    assert app.learning.lineage.version == 4, "the number of the damaged one is not used again"
    after = contents(three / "adapters")
    assert {name: after[name] for name in before} == before
    app.close()


@pytest.mark.slow
def test_a_folder_of_an_adapter_that_may_not_be_read_is_passed_over_too(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_file = Path.is_file

    def denied(path: Path) -> bool:  # root may read everything
        if path.parent.name == "v00003":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", denied)
    app = open_quick(three)
    status = app.learning.status()
    assert status.adapter_version == 2
    assert "v00003 cannot be read" in status.detail and "Serving v2 instead" in one_sentence(status.detail)
    app.close()


def test_where_every_adapter_is_gone_and_older_ones_were_pruned_the_base_model_serves(three: Path) -> None:
    app = open_quick(three)
    app.engine.store.mark_pruned(app.engine.base, 2)
    app.close()
    shutil.rmtree(three / "adapters")
    app = open_quick(three)
    assert app.engine.shared_models.serving.version == 0 and "Serving v0 instead" in app.learning.status().detail
    assert ask(app, QUESTION).complete
    app.close()


# -- two processes ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_app_on_the_same_folder_is_refused_in_one_sentence_and_touches_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with backups.serving(data):
        app = open_quick(data)
        teach(app, QUESTION, ANSWER)
        claimed = app.engine.store.claim_round(app.engine.base, 0)
        assert claimed
        before = contents(data)
        command = [sys.executable, "app.py", "--model", "pocket", "--data-folder", str(data), "--port", "0"]
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert second.returncode == 2 and "Another app is running on" in one_sentence(second.stderr.strip())
        assert contents(data) == before
        assert app.engine.store.round(claimed[0].id).status == "running", "its round is not released"
        app.close()
    with backups.serving(data):
        pass


def test_what_a_killed_backup_left_is_removed_by_the_next_start_and_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Store(data / DATABASE) as store:
        archive = backups.back_up(store, data)
    for left in (data / ".restoring-x", archive.parent / ".restoring-y"):
        left.mkdir()
        (left / DATABASE).write_text("all that was said")
    archive.with_name("later.tar.part").write_text("half of it")
    before = contents(data)
    with backups.serving(data):
        assert set(before) - set(contents(data)) == {
            f".restoring-x/{DATABASE}",
            f"backups/.restoring-y/{DATABASE}",
            "backups/later.tar.part",
        }
    assert archive.is_file()
