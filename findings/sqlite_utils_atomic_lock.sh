#!/usr/bin/env bash
# sqlite-utils and SQLite: `with db.atomic()` around a read and a write fails at once, whatever the timeout.
#
# Expected: with a timeout of 30 seconds a writer waits for another one, up to 30 seconds.
# Found: atomic() begins a deferred transaction. Once it has read, and another connection has committed, its first write
#   is refused within milliseconds ("database is locked", SQLITE_BUSY_SNAPSHOT): waiting could not help, for its snapshot
#   is old. The same two statements after BEGIN IMMEDIATE wait their turn and succeed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq sqlite-utils==4.2.1
env/bin/python - <<'PY'
import importlib.metadata
import sqlite3
import sys
import threading
import time

import sqlite_utils

TIMEOUT_SECONDS = 30.0


def opened():
    return sqlite_utils.Database(sqlite3.connect("counter.db", timeout=TIMEOUT_SECONDS, check_same_thread=False))


print("sqlite-utils", importlib.metadata.version("sqlite-utils"), "SQLite", sqlite3.sqlite_version)
first, second = opened(), opened()
first.enable_wal()
first["counter"].insert({"id": 1, "value": 0}, pk="id")

began = time.monotonic()
try:
    with first.atomic():
        value = first["counter"].get(1)["value"]
        second["counter"].update(1, {"value": value + 1})  # another connection commits in between
        began = time.monotonic()
        first["counter"].update(1, {"value": value + 1})
    error = None
except sqlite3.OperationalError as e:
    error = e
waited = time.monotonic() - began
name = getattr(error, "sqlite_errorname", "")
print(f"read, then write in atomic(): {error!r} {name} after {1000 * waited:.1f} ms, with a timeout of {TIMEOUT_SECONDS:.0f} s")

second.conn.execute("BEGIN IMMEDIATE")
second["counter"].update(1, {"value": 10})
threading.Timer(0.5, second.conn.commit).start()
began = time.monotonic()
first.conn.execute("BEGIN IMMEDIATE")
value = first["counter"].get(1)["value"]
first["counter"].update(1, {"value": value + 1})
first.conn.commit()
print(f"the same after BEGIN IMMEDIATE, with a writer under way: done after {time.monotonic() - began:.1f} s, value {value + 1}")

as_found = error is not None and "locked" in str(error) and waited < TIMEOUT_SECONDS / 10 and value == 10
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
