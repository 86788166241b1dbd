"""After Forget, deleting all conversations and a clean stop, no planted word is in any file of the data folder."""

from __future__ import annotations

import json
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from feedback_store import ChangedAnswerRecord, GateRecord, RoundFigures, Store
from services.app import AppServices
from services.data.backup_contents import backup_views, erase_from_backups
from services.data.backups import DATABASE, back_up
from services.learning import style_preferences
from services.learning.old_manifests import erase_from_manifests
from spear_core.models.adapters import MANIFEST
from tests.faults.quick import open_quick
from tests.services.harness import ask

QUESTION, HINT, ANSWER, TITLE = "zanzibarquestion", "quaggahint", "ocelotanswer", "narwhaltitle"
WORDS = (QUESTION, HINT, ANSWER, TITLE)


def found(folder: Path) -> dict[str, list[str]]:
    """Which planted words are in which file."""
    contents = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    said = {str(path.relative_to(folder)): [w for w in WORDS if w.encode() in data] for path, data in contents.items()}
    return {name: words for name, words in said.items() if words}


def correct_and_edit(app: AppServices, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A hint about form that stands, and an edited reply, both learned. Returns the ids of the replies.

    A random model follows no hint, so the revision's text is written here, as is that one question is enough for a wish
    to stand.
    """
    monkeypatch.setattr(style_preferences, "STANDING", 1)
    first = ask(app, f"{QUESTION} one")
    app.chat.rename(first.conversation_id, TITLE)
    revision = list(app.chat.revise(first.id, HINT))[-1]
    app.engine.store.update_message(revision.id, text=f"{first.text} {ANSWER}", complete=True)
    app.feedback.better(revision.id)
    assert app.learning.run_pending() == 1
    second = ask(app, f"{QUESTION} two")
    app.feedback.edit(second.id, f"{ANSWER} two")
    assert app.learning.run_pending() == 1
    return first.id, second.id


@pytest.mark.slow
def test_nothing_is_left_of_what_was_forgotten_and_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    app = open_quick(data)
    replies = correct_and_edit(app, monkeypatch)
    app.sync.sync()
    assert list((data / "federation" / "outbox").rglob("*.safetensors")), "the adapter is offered to peers"
    assert HINT in app.learning.adopted(app.engine.store.last_round(app.engine.base))  # type: ignore[arg-type]
    manifests = list(data.rglob(MANIFEST))
    assert len(manifests) == 2 and not any(word in m.read_text() for m in manifests for word in WORDS)
    assert any(json.loads(m.read_text())["figures"]["wishes"] for m in manifests), "that one stands is known still"
    for version in (1, 2):
        with zipfile.ZipFile(app.adapter_files.download(version, tmp_path)) as packed:
            contents = b"".join(packed.read(name) for name in packed.namelist())
        assert contents and not any(word.encode() in contents for word in WORDS), "an owner downloads no guest's hint"

    app.learning.forget(replies)
    assert not list((data / "federation" / "outbox").rglob("*.safetensors"))
    assert not list(data.rglob(MANIFEST))
    for view in app.chat.conversations():
        app.chat.delete(view.id)
    app.close()
    assert not found(data)
    with Store(data / DATABASE) as store:
        assert [r.proof for r in store.rounds(app.engine.base)] == [None, None]


@pytest.mark.slow
def test_words_are_there_while_they_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the search of the other test would find nothing in any case."""
    app = open_quick(tmp_path / "data")
    correct_and_edit(app, monkeypatch)
    app.close()
    assert set(found(tmp_path / "data")[DATABASE]) == set(WORDS)


def test_deleting_a_conversation_takes_its_words_out_of_the_proof(tmp_path: Path) -> None:
    app = open_quick(tmp_path / "data")
    reply = ask(app, QUESTION)
    app.feedback.edit(reply.id, ANSWER)
    assert app.learning.run_pending() == 1 and app.learning.status().proof is not None
    app.chat.delete(reply.conversation_id)
    assert app.learning.status().proof is None
    app.close()


def test_backups_say_what_they_still_hold_and_can_be_rid_of_it(tmp_path: Path) -> None:
    app = open_quick(tmp_path / "data")
    store, data = app.engine.store, app.engine.data_folder
    gone, kept = ask(app, QUESTION), ask(app, "something else")
    app.feedback.edit(gone.id, ANSWER)
    archive = back_up(store, data)
    assert not any(view.holds_erased for view in backup_views(store, data))
    assert erase_from_backups(store, data) == []

    app.learning.forget([gone.id])
    [view] = [v for v in backup_views(store, data) if v.file == archive.name]
    assert (view.conversations, view.erased_conversations, view.erased_feedback) == (2, 0, 2)
    app.chat.delete(gone.conversation_id)
    [view] = [v for v in backup_views(store, data) if v.file == archive.name]
    assert (view.conversations, view.erased_conversations, view.erased_feedback) == (2, 1, 2)

    assert erase_from_backups(store, data) == [archive.name]
    (left,) = backup_views(store, data)
    assert left.file != archive.name and not left.holds_erased
    app.close()
    assert not found(data), "the new backup holds none of it either"
    with Store(data / DATABASE) as again:
        assert again.message(kept.id).text == kept.text


def test_a_damaged_backup_may_hold_words_and_goes_too(tmp_path: Path) -> None:
    """It cannot be restored, but whoever opens the file reads it."""
    app = open_quick(tmp_path / "data")
    store, data = app.engine.store, app.engine.data_folder
    gone = ask(app, QUESTION)
    archive = back_up(store, data)
    archive.write_bytes(archive.read_bytes().replace(b"SQLite format 3", b"SQLite formas 3", 1))
    app.chat.delete(gone.conversation_id)
    (view,) = backup_views(store, data)
    assert view.holds_erased and not view.is_readable
    assert erase_from_backups(store, data) == [archive.name]
    app.close()
    assert not found(data)


@pytest.mark.slow
def test_what_earlier_versions_left_is_erased_at_the_first_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hints in figures and manifests, and deleted words in free pages of the file."""
    data = tmp_path / "data"
    app = open_quick(data)
    correct_and_edit(app, monkeypatch)
    app.close()
    with closing(sqlite3.connect(data / DATABASE)) as db:
        db.execute("PRAGMA secure_delete=OFF")
        db.execute("DELETE FROM _sqlite_migrations WHERE name = 'm012_words_erased'")
        db.execute("DELETE FROM settings WHERE key = 'manifests_without_words'")
        for table in ("rounds", "adapters"):
            db.execute(f"UPDATE {table} SET figures = json_set(figures, '$.wishes', json(?))", [json.dumps([HINT])])
        db.execute("CREATE TABLE big (words TEXT)")
        db.execute("INSERT INTO big VALUES (?)", ["narwhaldeleted " * 2000])
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("DROP TABLE big")
    manifest = next(data.rglob(MANIFEST))
    said = json.loads(manifest.read_text())
    said["figures"]["wishes"] = [HINT]
    manifest.write_text(json.dumps(said))
    assert b"narwhaldeleted" in (data / DATABASE).read_bytes()

    app = open_quick(data)
    store = app.engine.store
    for record in (*store.rounds(app.engine.base), *store.adapters(app.engine.base)):
        assert record.figures.style_preferences == ("",)
    assert json.loads(manifest.read_text())["figures"]["wishes"] == [""]
    assert erase_from_manifests(store, data) == 0, "once is enough"
    assert HINT not in app.learning.status().detail
    app.close()
    assert b"narwhaldeleted" not in (data / DATABASE).read_bytes()


def test_what_a_rounds_check_quotes_of_chats_goes_with_any_deletion(tmp_path: Path) -> None:
    app = open_quick(tmp_path / "data")
    store, reply = app.engine.store, ask(app, "something")
    app.feedback.edit(reply.id, "else")
    round_, claimed = store.claim_round(app.engine.base, 0) or pytest.fail("nothing to learn")
    kinds = ("recent", "neighbour", "earlier", "general")
    quoted = tuple(ChangedAnswerRecord(kind, f"{QUESTION} {kind}", "", ANSWER) for kind in kinds)
    store.finish_round(round_.id, "discarded", figures=RoundFigures(gate=GateRecord(checked=3, changed=quoted)))
    app.chat.delete(reply.conversation_id)
    left = store.round(round_.id).figures.gate
    assert left == GateRecord(checked=3, changed=(quoted[3],)), "starter questions are nobody's"
    app.close()
