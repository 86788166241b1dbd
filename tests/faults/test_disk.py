"""A disk that refuses, is read-only or damaged: one clear sentence, the last good state serving, nothing overwritten."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.old_schema import EARLIER, complaints_about, write_old_database
from feedback_store import Store, StoreCorrupt, StoreError
from services import backups
from services.workbench import DATABASE, Workbench
from spear_core.errors import ConfigError
from tests.faults.mounts import contents, mounted, one_sentence
from tests.faults.quick import open_quick, teach
from tests.services.bench_desk import ask
from tests.services.conftest import ROOT

QUESTION, ANSWER = "What is an owl?", "a bird"


# -- refused by the store, whatever the reason -----------------------------------------------------------------


@pytest.mark.parametrize("act", ["like", "dislike", "better", "still_wrong", "edit"])
def test_a_word_is_stored_with_its_traces_or_not_at_all(tmp_path: Path, act: str) -> None:
    bench = open_quick(tmp_path / "data")
    reply = ask(bench, QUESTION)
    revision = list(bench.chat.revise(reply.id, ""))[-1]
    bench.feedback.clear_vote(reply.id)
    refuse(bench, "BEFORE INSERT ON traces")
    words = {
        "like": lambda: bench.feedback.like(reply.id),
        "dislike": lambda: bench.feedback.dislike(reply.id),
        "better": lambda: bench.feedback.better(revision.id),
        "still_wrong": lambda: bench.feedback.still_wrong(revision.id),
        "edit": lambda: bench.feedback.edit(reply.id, ANSWER),
    }
    shown = [(m.id, m.vote, m.verdict) for m in bench.chat.messages(reply.conversation_id)]
    with pytest.raises(StoreError):
        words[act]()
    assert [(m.id, m.vote, m.verdict) for m in bench.chat.messages(reply.conversation_id)] == shown
    bench.close()


def test_a_reply_that_cannot_be_stored_does_not_block_its_conversation(tmp_path: Path) -> None:
    bench = open_quick(tmp_path / "data")
    conversation = bench.chat.new_conversation().id
    refuse(bench, "BEFORE UPDATE OF text ON messages")
    with pytest.raises(StoreError):
        ask(bench, QUESTION, conversation)
    allow(bench)
    assert ask(bench, QUESTION, conversation).complete
    bench.close()


def refuse(bench: Workbench, what: str) -> None:
    with sqlite3.connect(bench.engine.data_folder / DATABASE) as raw:
        raw.execute(f"CREATE TRIGGER refuse {what} BEGIN SELECT RAISE(ABORT, 'refused'); END")


def allow(bench: Workbench) -> None:
    with sqlite3.connect(bench.engine.data_folder / DATABASE) as raw:
        raw.execute("DROP TRIGGER refuse")


# -- read-only -------------------------------------------------------------------------------------------------


def test_a_read_only_data_folder_is_one_sentence_and_nothing_changes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    bench = open_quick(data)
    teach(bench, QUESTION, ANSWER)
    bench.close()
    before = contents(data)
    with mounted(tmp_path / "locked", "--bind", "-o", "ro", str(data)) as locked:
        with pytest.raises(ConfigError, match="cannot be written.*choose another") as caught:
            open_quick(locked)
        one_sentence(caught.value)
    assert contents(data) == before


# -- the database ----------------------------------------------------------------------------------------------


def test_a_damaged_page_is_named_nothing_is_overwritten_and_the_backup_brings_everything_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    bench = open_quick(data)
    teach(bench, QUESTION, ANSWER)
    bench.learning.run_pending()
    archive = backups.back_up(bench.engine.store, data, tmp_path / "backup.tar")
    bench.close()
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
    bench = open_quick(data)
    assert bench.learning.lineage.version == 1 and ask(bench, QUESTION).text == ANSWER
    bench.close()


@pytest.mark.parametrize("level", EARLIER)
def test_a_database_of_every_earlier_schema_opens_with_all_that_was_said_and_goes_on(
    tmp_path: Path, level: int
) -> None:
    base = open_quick(tmp_path / "other").engine.base
    data = tmp_path / "data"
    write_old_database(data / DATABASE, level, 20, base)
    bench = open_quick(data)
    shown = bench.chat.messages("c3")
    assert [(m.text, m.vote) for m in shown] == [("Capital of France?", 0), ("Lyon", -1)]
    assert complaints_about(data / DATABASE, level, 20) == []
    assert ask(bench, "And of Italy?", "c3").complete and bench.chat.messages("c3")[0].id == "q3"
    bench.feedback.edit("r3", "Paris")
    assert bench.learning.run_pending() == 1 and bench.learning.lineage.version == 1
    bench.close()


# -- adapters --------------------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A data folder with three versions, of which the last serves."""
    bench = open_quick(tmp_path / "data")
    for _ in range(3):
        bench.learning.lineage.adopt(bench.engine.twins.initial, {})
    bench.close()
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


@pytest.mark.parametrize("how", ["truncated", "emptied", "bit-flipped", "missing", "its folder missing"])
def test_a_damaged_adapter_is_passed_over_said_and_kept(three: Path, how: str) -> None:
    damage(three, 3, how)
    before = contents(three / "adapters")
    bench = open_quick(three)
    assert bench.engine.twins.serving.version == bench.learning.lineage.version == 2
    status = bench.learning.status()
    assert (
        status.phase == "failed" and "v00003" in status.detail and "Serving v2 instead" in one_sentence(status.detail)
    )
    assert ask(bench, QUESTION).complete and contents(three / "adapters") == before
    teach(bench, QUESTION, ANSWER)
    bench.learning.run_pending()
    assert bench.learning.lineage.version == 4, "the number of the damaged one is not used again"
    after = contents(three / "adapters")
    assert {name: after[name] for name in before} == before
    bench.close()


def test_where_every_adapter_is_gone_and_older_ones_were_pruned_the_base_model_serves(three: Path) -> None:
    bench = open_quick(three)
    bench.engine.store.mark_pruned(bench.engine.base, 2)
    bench.close()
    shutil.rmtree(three / "adapters")
    bench = open_quick(three)
    assert bench.engine.twins.serving.version == 0 and "Serving v0 instead" in bench.learning.status().detail
    assert ask(bench, QUESTION).complete
    bench.close()


# -- two processes ---------------------------------------------------------------------------------------------


def test_a_second_app_on_the_same_folder_is_refused_in_one_sentence_and_touches_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with backups.serving(data):
        bench = open_quick(data)
        teach(bench, QUESTION, ANSWER)
        claimed = bench.engine.store.claim_round(bench.engine.base, 0)
        assert claimed
        before = contents(data)
        command = [sys.executable, "app.py", "--model", "pocket", "--data-folder", str(data), "--port", "0"]
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert second.returncode == 2 and "Another app is running on" in one_sentence(second.stderr.strip())
        assert contents(data) == before
        assert bench.engine.store.round(claimed[0].id).status == "running", "its round is not released"
        bench.close()
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
