"""What must hold after a kill and a restart: everything acknowledged is there once, and the app works. Changes nothing."""

from __future__ import annotations

import json
import sqlite3
import tarfile
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch

from benchmarks.kill_ledger import Entry, Word, allowed_words, of_kind
from services.app import DATABASE, AppServices
from services.data import backups
from spear_core.errors import AdapterInvalid
from spear_core.models.adapters import MANIFEST, load_adapter, sha256_of


def check(app: AppServices, entries: Sequence[Entry]) -> list[str]:
    """Complaints, each a sentence; none where everything holds."""
    folder = app.engine.data_folder
    found = [*_database(folder / DATABASE), *_words(app, entries), *_revisions(app, entries)]
    return [*found, *_rounds(app), *_serving(app, entries), *_files(folder, entries), *_answers(app)]


def words_of(app: AppServices, replies: Sequence[str]) -> dict[str, Word]:
    """What is stored about some replies, read past the store's own methods."""
    found = {}
    with closing(sqlite3.connect(app.engine.data_folder / DATABASE)) as db:
        for reply in replies:
            votes = [v for (v,) in db.execute("SELECT value FROM votes WHERE message_id = ?", [reply])]
            cast = db.execute("SELECT count(*) FROM events WHERE kind = 'vote' AND message_id = ?", [reply]).fetchone()
            traces = db.execute(
                "SELECT side || ' ' || source FROM traces WHERE subject_id = ? AND status != 'withdrawn'", [reply]
            )
            found[reply] = Word(sum(votes) if len(votes) < 2 else 99, tuple(sorted(t for (t,) in traces)), cast[0])
    return found


def _database(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        verdict = db.execute("PRAGMA integrity_check").fetchone()[0]
        dangling = db.execute("PRAGMA foreign_key_check").fetchall()
    return [f"integrity_check says {verdict}"] * (verdict != "ok") + [f"dangling rows: {dangling}"] * bool(dangling)


def _words(app: AppServices, entries: Sequence[Entry]) -> list[str]:
    allowed = allowed_words(entries)
    stored = words_of(app, list(allowed))
    return [
        f"about reply {reply} is stored {stored[reply]}, and acknowledged was {states}"
        for reply, states in allowed.items()
        if stored[reply] not in states
    ]


def _revisions(app: AppServices, entries: Sequence[Entry]) -> list[str]:
    found = []
    for entry in of_kind(entries, "revision"):
        message = app.engine.store.message(entry["message"])
        if message.text != entry["text"] or not message.complete:
            found.append(f"revision {message.id} is {message.text!r} and was {entry['text']!r}")
    with closing(sqlite3.connect(app.engine.data_folder / DATABASE)) as db:
        [(unfinished,)] = db.execute("SELECT count(*) FROM messages WHERE complete = 0").fetchall()
    return found + [f"{unfinished} replies are still being written"] * bool(unfinished)


def _rounds(app: AppServices) -> list[str]:
    """No round runs, nothing stays claimed, and no trace was trained in two rounds."""
    store, base = app.engine.store, app.engine.base
    found = [f"round {r.id} still runs" for r in store.rounds(base, 10_000) if r.status == "running"]
    found += [f"trace {t.id} is still claimed" for t in store.traces(base=base, status="claimed")]
    taught: Counter[str] = Counter()
    for adapter in store.adapters(base):
        manifest = app.engine.data_folder / adapter.folder / MANIFEST
        if adapter.round_id is None or not manifest.is_file():
            continue
        said = json.loads(manifest.read_text())["traces"]
        taught.update(said)
        rows = {t for t, _ in store.taught_in(adapter.round_id)}
        if adapter.status == "kept" and rows != set(said):
            found.append(f"v{adapter.version} trained {sorted(said)} by its manifest and {sorted(rows)} by the store")
    return found + [f"trace {t} was trained {n} times" for t, n in taught.items() if n > 1]


def _serving(app: AppServices, entries: Sequence[Entry]) -> list[str]:
    """What is active is what was acknowledged last, its file is the recorded one, and it is what answers."""
    store, base, lineage = app.engine.store, app.engine.base, app.learning.lineage
    active = store.active_version(base)
    found = [lineage.complaint] if lineage.complaint else []
    acknowledged = of_kind(entries, "version")
    last = acknowledged[-1]["version"] if acknowledged else 0
    changes = [e for e in entries if e["what"] == "version"]
    may_be = {last}
    if changes and changes[-1]["do"] == "try":  # begun, not acknowledged: the old one, a new one or the one below
        newest = store.adapters(base)[:1]
        below = store.adapter(base, last).parent_version if last else 0
        may_be |= {below, *(a.version for a in newest)}
    if active not in may_be:
        found.append(f"v{active} is active, and v{last} was acknowledged")
    if app.engine.shared_models.serving.version != active:
        found.append(f"v{app.engine.shared_models.serving.version} serves, and v{active} is active")
    if not active:
        return found
    adapter = store.adapter(base, active)
    folder = app.engine.data_folder / adapter.folder
    try:
        state = load_adapter(folder, adapter.sha256)
    except AdapterInvalid as e:
        return [*found, f"the active adapter does not load: {e}"]
    if sha256_of(folder / "adapter_model.safetensors") != adapter.sha256:
        found.append(f"the file of v{active} is not the recorded one")
    served = lineage.state
    if served is None or any(not torch.equal(state[name], served[name]) for name in state):
        found.append(f"what serves is not what the file of v{active} holds")
    return found


def _files(folder: Path, entries: Sequence[Entry]) -> list[str]:
    """Nothing half-written is left over, and an acknowledged backup can be read."""
    patterns = ["adapters/*/.*.tmp", ".restoring-*", "backups/.restoring-*", "backups/*.part"]
    patterns += ["federation/inbox/*", "federation/inbox/.*", "federation/outbox/*/.*.tmp"]
    found = [f"{path.relative_to(folder)} was left over" for p in patterns for path in folder.glob(p)]
    for entry in of_kind(entries, "backup")[-1:]:
        with tempfile.TemporaryDirectory() as scratch:
            with tarfile.open(entry["path"]) as tar:
                tar.extract(backups.DATABASE, scratch, filter="data")
            found += [f"of a backup, {words}" for words in _database(Path(scratch) / backups.DATABASE)]
    return found


def _answers(app: AppServices) -> list[str]:
    conversation = app.chat.new_conversation(learn=False)
    reply = list(app.chat.reply(conversation.id, "What can you do?"))[-1]
    app.chat.delete(conversation.id)
    return [] if reply.complete and reply.text else [f"asked a question, the app answered {reply.text!r}"]
