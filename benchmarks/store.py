"""The store with a long history: `python -m benchmarks.store [--rows 1000000] [--json]`.

Fills a temporary database with `--rows` votes and a fifth more traces, then times what a chat, a round and the screen ask
of it. The history:

- conversations of five questions, every reply voted on: of ten replies six are liked, one is corrected by a revision,
  one edited, one revised in vain, one only disliked; a tenth of the questions are of a thousand common ones;
- up to 500 rounds: 92 % promoted, 4 % rolled back, 4 % discarded; the last 50 conversations still wait for theirs;
- 2 % of the conversations may not teach, so their traces stay pending; 1 % are deleted, 1 % forgotten; 3 % of the
  feedback is withdrawn. The bare model answered in the first tenth of the conversations.

The rows are written as the first two migrations leave them, so opening the store runs the later ones. Every write waits
for the disk: the row `fsync` is the machine's own share of it. Processor time well below the clock's in an operation
that only reads says that the machine was busy with something else.

The bar is for claiming, voting and what the screen asks. Deleting a conversation touches some hundred pages, so that at
every tenth or so SQLite writes its log back into the file; it is timed, but has no bar.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from sqlite_utils import Database

from benchmarks.report import print_table
from feedback_store import NewAdapter, NewTrace, RoundFigures, Store
from feedback_store.database import to_json
from feedback_store.migrations import MIGRATIONS
from feedback_store.records import SIDES

R = TypeVar("R")
Rows = dict[str, list[tuple[Any, ...]]]

BAR_MS = 10.0
FSYNC, DELETE = "fsync", "delete_conversation"
NO_BAR = (FSYNC, DELETE)
BASE = "0123456789abcdef"
ROUNDS, WAITING, TURNS, JUDGED = 500, 50, 5, 1000
LISTED = 200  # entries of the Learning tab, and the latest wins in which wishes are looked for
REPLAYED, ANCHORS = 256, 192  # what services/learning/rounds.py and services/learning/anchors.py ask for
# source of the traces -> vote, kind of the second answer, its verdict
SAID: dict[str, tuple[int, str, str | None]] = {
    "liked": (1, "", None),
    "confirmed": (-1, "revision", "better"),
    "edited": (-1, "edit", None),
    "unfixed": (-1, "revision", "still_wrong"),
    "no_hint": (-1, "", None),
}
SPOKEN = ["liked"] * 6 + ["confirmed", "edited", "unfixed", "no_hint"]
ENDS = {12: "rolled_back", 24: "discarded"}  # of each 25 rounds; the others are promoted
FIGURES = to_json({f"figure_{i}": round(i / 7, 4) for i in range(12)})
WORDS = [
    "river",
    "harbour",
    "lantern",
    "copper",
    "meadow",
    "winter",
    "engine",
    "planet",
    "violin",
    "garden",
    "mirror",
    "signal",
    "anchor",
    "ticket",
]
INSERTS = {
    "rounds": "rounds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "adapters": "adapters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "active_adapters": "active_adapters VALUES (?, ?)",
    "conversations": "conversations (id, title, learn, created_at_utc) VALUES (?, ?, ?, ?)",
    "messages": "messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "votes": "votes VALUES (?, ?, ?)",
    "hints": "hints (message_id, text, created_at_utc) VALUES (?, ?, ?)",
    "events": "events (kind, message_id, data, created_at_utc) VALUES (?, ?, ?, ?)",
    "traces": "traces (id, side, conversation_id, message_id, subject_id, prompt, completion, confidence, source, status, "
    "round_id, base, created_at_utc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
}


class History:
    """Makes the rows of a long history, some conversations at a time."""

    def __init__(self, rows: int, rng: random.Random) -> None:
        self.rng = rng
        self.votes_left = rows
        self.length = max(1, rows // TURNS)  # conversations, roughly
        self.waiting = TURNS * min(WAITING, self.length // 8)
        self.ends = [ENDS.get(n % 25, "promoted") for n in range(max(1, min(ROUNDS, self.length // 4)))]
        self.ends[-1] = "promoted"
        self.versions = [0]  # the one that served before the first round, and after each
        self.common = [f"{self._words(8)}?" for _ in range(1000)]

    def parts(self) -> Iterator[Rows]:
        yield self._rounds()
        number = 0
        while self.votes_left > 0:
            part: Rows = {table: [] for table in ("conversations", "messages", "votes", "hints", "events", "traces")}
            while self.votes_left > 0 and len(part["traces"]) < 20_000:
                self._conversation(part, number)
                number += 1
            yield part
        yield {"events": [("judged", None, to_json({"gain": 0.5}), _when(number)) for _ in range(JUDGED)]}

    def _rounds(self) -> Rows:
        rows: Rows = {"rounds": [], "adapters": []}
        made = 0
        for number, end in enumerate(self.ends, start=1):
            parent, when = self.versions[-1], _when(number * self.length // len(self.ends))
            if end != "discarded":
                made += 1
                status = "kept" if end == "promoted" else end
                folder = f"adapters/v{made:05d}"
                rows["adapters"].append((BASE, made, parent, folder, "0" * 64, number, status, 0, FIGURES, when))
            said = {"prompt": self._words(8), "before": self._words(12), "after": self._words(12)}
            ended = ("discarded", None) if end == "discarded" else ("promoted", made)
            figures = (parent, 8, 4, REPLAYED, FIGURES, self._words(12), to_json(said))
            rows["rounds"].append((number, BASE, ended[0], when, when, ended[1], *figures))
            self.versions.append(made if end == "promoted" else parent)
        return rows | {"active_adapters": [(BASE, self.versions[-1])]}

    def _conversation(self, part: Rows, number: int) -> None:
        waits = self.votes_left <= self.waiting
        drawn = 1.0 if waits else self.rng.random()
        private, deleted, forgotten = drawn < 0.02, 0.02 <= drawn < 0.03, 0.03 <= drawn < 0.04
        round_id = min(number * len(self.ends) // self.length, len(self.ends) - 1) + 1
        version = 0 if number < self.length // 10 else self.versions[round_id - 1]
        conversation, when, position = self._id(), _when(number), 0
        if not deleted:
            part["conversations"].append((conversation, self._words(4), int(not private), when))
        prompt: list[str] = []
        for source in self.rng.sample(SPOKEN, TURNS):
            vote, kind, verdict = SAID[source]
            question = f"{self._words(9)} {number}?" if self.rng.random() < 0.9 else self.rng.choice(self.common)
            first, second = self._words(16), self._words(16)
            asked, reply, better = self._id(), self._id(), self._id()
            hint = self._words(5) if kind == "revision" else None
            prompt.append(to_json({"role": "user", "content": question}))
            x = f"[{', '.join(prompt)}]"
            prompt.append(to_json({"role": "assistant", "content": second if kind else first}))
            if not deleted:
                by = (version, 1, when)
                part["messages"] += [
                    (asked, conversation, position, "user", "message", question, None, None, None, None, *by),
                    (reply, conversation, position + 1, "assistant", "message", first, asked, None, None, None, *by),
                ]
                position += 2
                if kind:
                    hung = (kind, second, asked, reply, hint, verdict)
                    part["messages"].append((better, conversation, position, "assistant", *hung, *by))
                    position += 1
            if forgotten:
                continue
            if not deleted:
                self.votes_left -= 1
                part["votes"].append((reply, vote, when))
                part["events"].append(("vote", reply, to_json({"value": vote}), when))
                if hint:
                    part["hints"].append((reply, hint, when))
                    part["events"].append(("hint", reply, to_json({"text": hint}), when))
            end = self.ends[round_id - 1]
            status = {"promoted": "trained", "discarded": "skipped"}.get(end, end)
            if self.rng.random() < 0.03 or (deleted and status != "trained"):
                status = "withdrawn"
            elif waits or private:
                status = "pending"
            trained_by = None if waits or private else round_id
            for side in ("win", "lose"):
                if (side == "win" and source in ("unfixed", "no_hint")) or (side == "lose" and source == "liked"):
                    continue
                spoken, text = (better, second) if side == "win" and kind else (reply, first)
                where = (None, None, None) if deleted else (conversation, spoken, reply)
                confidence = 0.5 if source in ("unfixed", "no_hint") else 1.0
                what = (x, text, confidence, source, status, trained_by, BASE, when)
                part["traces"].append((self._id(), side, *where, *what))

    def _words(self, count: int) -> str:
        return " ".join(self.rng.choices(WORDS, k=count))

    def _id(self) -> str:
        return f"{self.rng.getrandbits(128):032x}"


def _when(number: int) -> str:
    return (datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=number)).isoformat(timespec="microseconds")


def fill(path: Path, rows: int, rng: random.Random) -> None:
    """Write a history of `rows` votes to a new file, in the schema of the first two migrations."""
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        db = Database(conn, execute_plugins=False)
        MIGRATIONS.apply(db, stop_before="m003_long_histories")
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-2000000"):
            db.execute(f"PRAGMA {pragma}")
        indexes = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL").fetchall()
        db.execute("BEGIN")
        for name, _ in indexes:
            db.execute(f"DROP INDEX {name}")
        for part in History(rows, rng).parts():
            for table, values in part.items():
                conn.executemany(f"INSERT INTO {INSERTS[table]}", values)
        for _, sql in indexes:
            db.execute(sql)
        db.execute("COMMIT")


class Clock:
    """How long calls took, operation by operation: on the clock, and of that on the processor."""

    def __init__(self) -> None:
        self.ms: dict[str, list[float]] = {}
        self.cpu_ms: dict[str, list[float]] = {}

    def __call__(self, op: str, call: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        started, cpu_started = time.perf_counter(), time.thread_time()
        result = call(*args, **kwargs)
        self.ms.setdefault(op, []).append((time.perf_counter() - started) * 1000)
        self.cpu_ms.setdefault(op, []).append((time.thread_time() - cpu_started) * 1000)
        return result


def at_share(ms: Sequence[float], share: float) -> float:
    """Milliseconds that this share of the calls did not exceed."""
    return round(sorted(ms)[math.ceil(share * len(ms)) - 1], 3)


@dataclass(frozen=True)
class Spoken:
    """A first reply of the history that was voted on."""

    conversation_id: str
    question_id: str
    reply_id: str
    vote: int

    def corrected(self) -> list[NewTrace]:
        """What a confirmed correction adds."""
        about = (self.conversation_id, self.reply_id, self.reply_id)
        prompt = [{"role": "user", "content": self.question_id}]
        return [NewTrace(side, *about, prompt, side, 1.0, "confirmed", BASE) for side in SIDES]


def pick(path: Path, count: int, rng: random.Random) -> list[Spoken]:
    """Replies from anywhere in the history, of different conversations that may teach."""
    found: dict[str, Spoken] = {}
    with closing(sqlite3.connect(path)) as conn:
        last = conn.execute("SELECT max(rowid) FROM votes").fetchone()[0]
        while len(found) < count:
            row = conn.execute(
                "SELECT m.conversation_id, m.parent_id, m.id, v.value FROM votes v JOIN messages m ON m.id = v.message_id "
                "JOIN conversations c ON c.id = m.conversation_id WHERE v.rowid = ? AND c.learn = 1",
                [rng.randint(1, last)],
            ).fetchone()
            if row:
                found[row[0]] = Spoken(*row)
    return list(found.values())


def screen(store: Store, clock: Clock, at: Spoken) -> None:
    """What the chat page, the status card and the Learning tab show."""
    clock("conversations", store.conversations)
    clock("messages", store.messages, at.conversation_id)
    clock("votes", store.votes, at.conversation_id)
    clock("active_version", store.active_version, BASE)
    clock("count_pending", store.count_pending, BASE)
    clock("last_round", store.last_round, BASE)
    clock("latest_feedback", store.latest_feedback, BASE, LISTED)
    clock("adapters", store.adapters, BASE)
    clock("rounds", store.rounds, BASE)
    clock("rounds (all of them)", store.rounds, BASE, limit=10_000)


def reads_of_a_round(store: Store, clock: Clock, at: Spoken, seed: int, half_way: str) -> None:
    """What a round, self-play and a forgetting look up."""
    clock("replay_wins", store.replay_wins, BASE, REPLAYED, [], seed)
    clock("unobjected_replies", store.unobjected_replies, ANCHORS, seed)
    clock("unobjected_replies (before a time)", store.unobjected_replies, ANCHORS, seed, half_way)
    clock(
        "traces (latest wins)", store.traces, base=BASE, status="trained", side="win", limit=LISTED, newest_first=True
    )
    clock("events (judged)", store.events, kind="judged")
    line = clock("lineage", store.lineage, BASE, store.active_version(BASE))
    clock("traces (of a reply)", store.traces, base=BASE, status="trained", subject_id=at.reply_id)
    clock("taught_in", store.taught_in, line[seed % len(line)].round_id or 0, [at.reply_id])


def chat(store: Store, clock: Clock, at: Spoken) -> None:
    """A question, a streamed reply, and another word on an old reply."""
    asked = clock("add_message (question)", store.add_message, at.conversation_id, "user", "And then?")
    reply = clock(
        "add_message (reply)",
        store.add_message,
        at.conversation_id,
        "assistant",
        "",
        parent_id=asked.id,
        complete=False,
    )
    clock("update_message", store.update_message, reply.id, text="Nothing.", complete=True)
    clock("set_vote", store.set_vote, at.reply_id, -at.vote)
    clock("add_hint", store.add_hint, at.reply_id, "another word")
    clock("replace_traces", store.replace_traces, at.reply_id, at.corrected())
    clock("withdraw_traces", store.withdraw_traces, at.reply_id)


def correction(store: Store, clock: Clock, at: Spoken) -> int:
    """One confirmed correction, learned by a round of its own. Returns the version that the round made."""
    store.replace_traces(at.reply_id, at.corrected())
    parent = store.active_version(BASE)
    claim = clock("claim_round (one correction)", store.claim_round, BASE, parent)
    assert claim is not None
    version = store.next_version(BASE)
    adapter = NewAdapter(BASE, version, parent, f"adapters/v{version:05d}", "0" * 64)
    words: dict[str, Any] = {"figures": RoundFigures(), "verdict": "kept", "proof": None, "replayed": REPLAYED}
    clock("promote", store.promote, claim[0].id, adapter, trained_ids=[t.id for t in claim[1]], **words)
    return version


def measure(store: Store, path: Path, calls: int, rng: random.Random) -> Clock:
    """Time every operation `calls` times; those that write rounds, forget or delete, a fifth as often."""
    clock, few = Clock(), max(1, calls // 5)
    spoken = pick(path, calls, rng)
    half_way = store.rounds(BASE, limit=ROUNDS // 2)[-1].started_at_utc
    for seed, at in enumerate(spoken):
        screen(store, clock, at)
        reads_of_a_round(store, clock, at, seed, half_way)
    for _ in range(few):
        claim = clock("claim_round (all that waits)", store.claim_round, BASE, store.active_version(BASE))
        assert claim is not None
        clock("still_claimed", store.still_claimed, claim[0].id)
        clock("finish_round (given back)", store.finish_round, claim[0].id, "interrupted")
    for at in spoken:
        chat(store, clock, at)
    versions = [correction(store, clock, at) for at in spoken[:few]]
    for version, at in zip(versions[::-1], spoken[few - 1 :: -1], strict=True):
        parent = store.adapter(BASE, version).parent_version
        clock("forget (the newest round)", store.forget, BASE, [at.reply_id], parent, [version])
    for at in spoken[-few:]:
        clock("set_learn", store.set_learn, at.conversation_id, False)
        clock(DELETE, store.delete_conversation, at.conversation_id)
    with open(path.with_suffix(".fsync"), "wb") as file:
        for _ in range(calls):
            clock(FSYNC, flush, file.fileno())
    return clock


def flush(file: int) -> None:
    """What the disk alone takes for a small commit."""
    os.write(file, bytes(16_384))
    os.fsync(file)


def run(rows: int, calls: int, seed: int) -> dict[str, Any]:
    """Fill, open and measure in a temporary folder."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "feedback.db"
        started = time.monotonic()
        fill(path, rows, rng)
        filled = time.monotonic()
        Store(path).close()
        migrated = time.monotonic()
        with Store(path) as store:
            opened = time.monotonic()
            clock = measure(store, path, calls, rng)
        p95 = {op: at_share(ms, 0.95) for op, ms in clock.ms.items()}
        barred = {op: ms for op, ms in p95.items() if op not in NO_BAR}
        return {
            "worst_p95_ms": max(barred.values()),
            "worst": max(barred, key=lambda op: barred[op]),
            "bar_ms": BAR_MS,
            "p95_ms": p95,
            "p50_ms": {op: at_share(ms, 0.5) for op, ms in clock.ms.items()},
            "p95_cpu_ms": {op: at_share(ms, 0.95) for op, ms in clock.cpu_ms.items()},
            "rows": rows,
            "calls": {op: len(ms) for op, ms in clock.ms.items()},
            "file_mb": round(path.stat().st_size / 1e6),
            "fill_seconds": round(filled - started, 1),
            "migrate_seconds": round(migrated - filled, 1),
            "open_seconds": round(opened - migrated, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="votes; there are a fifth more traces")
    parser.add_argument("--calls", type=int, default=200, help="timed calls of each operation that is not rare")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    arguments = parser.parse_args()
    figures = run(arguments.rows, arguments.calls, arguments.seed)
    if arguments.json:
        print(json.dumps(figures))
        return
    print_table(
        ["operation", "calls", "p50 ms", "p95 ms", f"bar {BAR_MS:g} ms", "cpu p95 ms"],
        [
            [op, str(figures["calls"][op]), f"{p50:.2f}", f"{p95:.2f}", _verdict(op, p95), f"{cpu:.2f}"]
            for (op, p50), p95, cpu in zip(
                figures["p50_ms"].items(), figures["p95_ms"].values(), figures["p95_cpu_ms"].values(), strict=True
            )
        ],
    )
    print(
        f"{figures['rows']} votes, {figures['file_mb']} MB; filled in {figures['fill_seconds']} s, migrated in "
        f"{figures['migrate_seconds']} s, opened and checked in {figures['open_seconds']} s"
    )


def _verdict(op: str, p95: float) -> str:
    return "" if op in NO_BAR else "kept" if p95 <= BAR_MS else "MISSED"


if __name__ == "__main__":
    main()
