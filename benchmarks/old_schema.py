"""Databases as earlier versions of this program left them, filled with conversations, votes and traces."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from sqlite_utils import Database

from feedback_store.migrations import MIGRATIONS, known_names

NAMES = sorted(known_names())
EARLIER = range(1, len(NAMES))  # levels: the number of migrations that such a database has seen
WHEN = "2026-01-01T00:00:00.000000+00:00"


def write_old_database(path: Path, level: int, conversations: int, base: str = "base") -> None:
    """A database of an earlier `level` with a question, a reply, a vote on it and a win in each conversation.

    Replies are called r0, r1, ...; every third vote is a thumbs-down. Before level 2 there are no traces.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    db = Database(path, execute_plugins=False)
    MIGRATIONS.apply(db, stop_before=NAMES[level])
    prompt = json.dumps([{"content": "Capital of France?", "role": "user"}])
    with db.conn:
        for i in range(conversations):
            _insert(db.conn, "conversations", id=f"c{i}", title="Old", learn=1, created_at_utc=WHEN)
            said = {"conversation_id": f"c{i}", "kind": "message", "adapter_version": 0, "complete": 1}
            said["created_at_utc"] = WHEN
            _insert(db.conn, "messages", id=f"q{i}", position=0, role="user", text="Capital of France?", **said)
            answer = {"position": 1, "role": "assistant", "text": "Lyon", "parent_id": f"q{i}"}
            _insert(db.conn, "messages", id=f"r{i}", **answer, **said)
            _insert(db.conn, "votes", message_id=f"r{i}", value=-1 if i % 3 == 0 else 1, voted_at_utc=WHEN)
            if level > 1:
                about = {"conversation_id": f"c{i}", "message_id": f"r{i}", "subject_id": f"r{i}", "prompt": prompt}
                state = {"confidence": 1.0, "source": "liked", "status": "pending", "created_at_utc": WHEN}
                _insert(db.conn, "traces", id=f"t{i}", side="win", completion="Paris", base=base, **about, **state)
    db.close()


def complaints_about(path: Path, level: int, conversations: int) -> list[str]:
    """What a database that was brought up to date lost or doubled; empty where it is whole."""
    found = []
    with sqlite3.connect(path) as db:
        if (verdict := db.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            found.append(f"integrity_check says {verdict}")
        applied = [row[0] for row in db.execute("SELECT name FROM _sqlite_migrations ORDER BY id")]
        if applied != NAMES:
            found.append(f"migrations applied: {applied}")
        wanted = {"conversations": conversations, "messages": 2 * conversations, "votes": conversations}
        wanted["traces"] = conversations if level > 1 else 0
        for table, rows in wanted.items():
            if (there := db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) != rows:
                found.append(f"{there} {table} instead of {rows}")
        down = len(range(0, conversations, 3))
        if (objected := db.execute("SELECT count(*) FROM messages WHERE objected").fetchone()[0]) != down:
            found.append(f"{objected} replies marked as objected to instead of {down}")
    db.close()
    return found


def _insert(conn: sqlite3.Connection, table: str, **row: object) -> None:
    marks = ", ".join("?" * len(row))
    conn.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))
