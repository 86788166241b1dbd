"""Long histories: what is asked reads only what it needs, and what is kept beside the rows says what the rows say."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from benchmarks import store as long_history
from feedback_store import Store, Trace, UserStore, conversations, sampling, traces
from feedback_store.migrations import MIGRATIONS
from tests.feedback_store.harness import BASE, StoreHarness, Talk

# What may be gone through from one end: lists made for the purpose, and the newest rows as far as a limit
MAY_BE_SCANNED = {"json_each", "asked", "line", "conversations", "CONSTANT", "w", "r", "rounds"}

OPERATIONS: dict[str, Callable[[Store, long_history.Spoken], Any]] = {
    "add_message": lambda s, at: s.add_message(at.conversation_id, "assistant", "x", parent_id=at.question_id),
    "messages": lambda s, at: s.messages(at.conversation_id),
    "votes": lambda s, at: s.votes(at.conversation_id),
    "conversations": lambda s, at: s.conversations(limit=20),
    "older conversations": lambda s, at: s.conversations(limit=20, after=at.conversation_id),
    "older conversations of a user": lambda s, at: UserStore(s, "").conversations(limit=20, after=at.conversation_id),
    "set_vote": lambda s, at: s.set_vote(at.reply_id, -at.vote),
    "add_hint": lambda s, at: s.add_hint(at.reply_id, "x"),
    "replace_traces": lambda s, at: s.replace_traces(at.reply_id, at.corrected()),
    "withdraw_traces": lambda s, at: s.withdraw_traces(at.reply_id),
    "traces of a reply": lambda s, at: s.traces(base=long_history.BASE, status="trained", subject_id=at.reply_id),
    "latest wins": lambda s, at: s.traces(
        base=long_history.BASE, status="trained", side="win", limit=20, newest_first=True
    ),
    "latest_feedback": lambda s, at: s.latest_feedback(long_history.BASE, 20),
    "latest_feedback_of_others": lambda s, at: s.latest_feedback_of_others(long_history.BASE, "another", 20),
    "latest_feedback_of_others without others": lambda s, at: s.latest_feedback_of_others(long_history.BASE, "", 20),
    "count_pending": lambda s, at: s.count_pending(long_history.BASE),
    "replay_wins": lambda s, at: s.replay_wins(long_history.BASE, 8, [at.reply_id], 3),
    "wins_from_memory": lambda s, at: s.wins_from_memory(long_history.BASE, "", 64),
    "stands": lambda s, at: s.stands(s.traces(subject_id=at.reply_id)[0].id),
    "is_replayed": lambda s, at: s.is_replayed(s.traces(subject_id=at.reply_id)[0].id),
    "is_settled": lambda s, at: s.is_settled(s.traces(subject_id=at.reply_id)[0]),
    "unobjected_replies": lambda s, at: s.unobjected_replies(4, 3),
    "events": lambda s, at: s.events(kind="judged"),
    "claim_round": lambda s, at: s.claim_round(long_history.BASE, s.active_version(long_history.BASE)),
    "still_claimed": lambda s, at: s.still_claimed(s.last_round(long_history.BASE).id),
    "finish_round": lambda s, at: s.finish_round(s.last_round(long_history.BASE).id, "interrupted"),
    "set_learn": lambda s, at: s.set_learn(at.conversation_id, False),
    "delete_conversation": lambda s, at: s.delete_conversation(at.conversation_id),
}


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A history, and one four times as long."""
    folder = tmp_path_factory.mktemp("long")
    paths = folder / "short.db", folder / "long.db"
    for path, rows in zip(paths, (2000, 8000), strict=True):
        long_history.fill(path, rows, random.Random(1))
    yield paths


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are more rows to draw from than a window holds."""
    for module in (traces, conversations):
        monkeypatch.setattr(module, "WINDOW", 8)


def asked(store: Store) -> list[Database]:
    """The connections that calls go through; the log's thread has one of its own."""
    assert store._connection.log
    return [db for db in store._connection._opened if db is not store._connection.log._db]


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """The SQL that is run meanwhile, with its values."""
    seen: list[str] = []
    for db in asked(store):
        db.conn.set_trace_callback(seen.append)
    try:
        yield seen
    finally:
        for db in asked(store):
            db.conn.set_trace_callback(None)


def steps(store: Store, call: Callable[[], Any]) -> int:
    """In tens, the instructions that SQLite ran."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    for db in asked(store):
        db.conn.set_progress_handler(tick, 10)
    try:
        call()
    finally:
        for db in asked(store):
            db.conn.set_progress_handler(None, 0)
    return count


def test_nothing_that_is_asked_often_goes_through_a_table(histories: tuple[Path, Path]) -> None:
    with Store(histories[0]) as store:
        at = long_history.pick(histories[0], 1, random.Random(2))[0]
        for name, operation in OPERATIONS.items():
            with statements(store) as seen:
                operation(store, at)
            queries = [sql for sql in seen if sql.split()[0] in ("SELECT", "WITH", "UPDATE", "DELETE")]
            assert queries, name
            for sql in queries:
                plan = [row[3].split() for row in store._db.execute(f"EXPLAIN QUERY PLAN {sql}")]
                scanned = {step[1] for step in plan if step[0] == "SCAN"}
                assert scanned <= MAY_BE_SCANNED, f"{name}: {scanned} in {sql}"


@pytest.mark.usefixtures("small_window")
def test_a_history_four_times_as_long_is_asked_with_hardly_more_steps(histories: tuple[Path, Path]) -> None:
    taken: list[dict[str, int]] = []
    for path in histories:
        with Store(path) as store:
            at = long_history.pick(path, 1, random.Random(5))[0]
            taken.append({name: steps(store, lambda op=op, at=at: op(store, at)) for name, op in OPERATIONS.items()})  # type: ignore[misc]
    short, long = taken
    assert min(short.values()) > 0
    for name in OPERATIONS:
        assert long[name] <= 1.5 * short[name] + 100, f"{name}: {short[name]} steps became {long[name]}"


# -- what is kept beside the rows ------------------------------------------------------------------------------------


def lived_through(store: Store, harness: StoreHarness, seed: int, length: int = 120) -> None:
    """Things that people do, in a seeded order: few questions, so that they are asked, liked and corrected again."""
    store._db.execute("PRAGMA synchronous=OFF")  # nobody pulls the plug here
    rng = random.Random(seed)
    talks = [harness.talk("question 0")]
    for _ in range(length):
        act, talk = rng.randrange(12), rng.choice(talks)
        if act < 4:
            talks.append(harness.talk(f"question {rng.randrange(20)}", learn=rng.random() < 0.9, version=int(act == 0)))
        elif act == 4:
            store.set_vote(talk.reply.id, rng.choice((-1, 0, 0, 1)))
        elif act == 5 and rng.random() < 0.3:
            revised(talk)
        elif act in (6, 7):
            new = [talk.trace(side) for side in rng.choice((["win"], ["win", "lose"], ["lose"]))]
            store.set_vote(talk.reply.id, 1 if new[0].side == "win" else -1)
            store.replace_traces(talk.reply.id, new)
        elif act == 8:
            store.set_learn(talk.conversation_id, rng.random() < 0.5)
        elif act == 9 and len(talks) > 3:
            store.delete_conversation(talk.conversation_id)
            talks.remove(talk)
        elif act == 10:
            store.update_message(talk.question.id, text=f"question {rng.randrange(20)}")
        elif store.count_pending(BASE)[0]:
            harness.promoted()
    store.withdraw_traces(talks[-1].reply.id)
    store.forget(BASE, [talks[0].reply.id], store.active_version(BASE), [])


def revised(talk: Talk) -> None:
    talk.store.add_message(
        talk.conversation_id, "assistant", "Rome", kind="revision", parent_id=talk.question.id, revises_id=talk.reply.id
    )


WINS_TO_REPLAY = """
    SELECT id FROM (
        SELECT *, max(seq) FILTER (WHERE status IN ('trained', 'claimed', 'pending')) OVER (PARTITION BY prompt) AS latest
        FROM traces WHERE base = ? AND side = 'win'
    ) WHERE seq = latest AND status = 'trained' AND confidence = 1.0
    AND conversation_id IN (SELECT id FROM conversations WHERE learn = 1)
    AND subject_id IN (SELECT message_id FROM votes WHERE value = 1) ORDER BY seq
"""
REPLIES_TO_ANCHOR_ON = """
    SELECT min(r.rowid), r.id FROM messages r JOIN messages u ON u.id = r.parent_id JOIN conversations c
    ON c.id = r.conversation_id WHERE c.learn = 1 AND u.role = 'user' AND u.position = 0 AND r.role = 'assistant'
    AND r.kind = 'message' AND r.complete = 1 AND r.adapter_version = 0 AND r.text != ''
    AND NOT EXISTS (SELECT 1 FROM messages e WHERE e.parent_id = u.id AND e.role = 'assistant' AND e.position < r.position)
    AND u.text NOT IN (SELECT q.text FROM messages q JOIN messages a ON a.parent_id = q.id WHERE a.id IN (
        SELECT message_id FROM votes WHERE value = -1 UNION SELECT revises_id FROM messages WHERE revises_id IS NOT NULL))
    GROUP BY u.text ORDER BY c.seq
"""


@pytest.mark.parametrize("seed", range(8))
def test_the_keys_and_flags_say_what_the_rows_say(store: Store, harness: StoreHarness, seed: int) -> None:
    lived_through(store, harness, seed)
    wins = [row["id"] for row in store._rows(WINS_TO_REPLAY, [BASE])]
    replies = [row["id"] for row in store._rows(REPLIES_TO_ANCHOR_ON)]
    assert wins and replies
    assert [t.id for t in store.replay_wins(BASE, 100, [], seed)] == shuffled(wins, seed)
    assert [r.id for _, r in store.unobjected_replies(100, seed)] == shuffled(replies, seed)
    teach = {c.id for c in store.conversations() if c.learn}
    waiting = [t.side for t in store.traces(base=BASE, status="pending") if t.conversation_id in teach]
    assert store.count_pending(BASE) == (waiting.count("win"), waiting.count("lose"))


def shuffled(ids: list[str], seed: int) -> list[str]:
    """The choice out of few: all of them in their order of writing, shuffled."""
    random.Random(seed).shuffle(ids)
    return ids


def last_word(about: list[Trace]) -> int:
    """Where the word stands that the Learning tab shows of a reply."""
    standing = [i for i, t in enumerate(about) if t.status != "withdrawn"] or list(range(len(about)))
    return ([i for i in standing if about[i].side == "win"] or standing)[-1]


@pytest.mark.parametrize("seed", range(4))
def test_the_latest_feedback_is_that_of_the_replies_with_the_newest_last_word(
    store: Store, harness: StoreHarness, seed: int
) -> None:
    lived_through(store, harness, seed)
    harness.talk().add("win", base="base-b")
    everything = store.traces(base=BASE)
    place = {t.id: i for i, t in enumerate(everything)}
    about: dict[str, list[Trace]] = {}
    for t in everything:
        if t.subject_id is not None:
            about.setdefault(t.subject_id, []).append(t)
    newest = sorted(about, key=lambda s: place[about[s][last_word(about[s])].id], reverse=True)
    for limit in (1, 3, 100):
        assert store.latest_feedback(BASE, limit) == [t for t in everything if t.subject_id in newest[:limit]]


# -- drawing from more rows than a window holds -----------------------------------------------------------------------


@pytest.mark.usefixtures("small_window")
def test_what_is_drawn_after_a_forgetting_is_what_would_have_been_drawn_without_the_forgotten(tmp_path: Path) -> None:
    def drawn(*, with_forgotten: bool) -> list[list[tuple[str, str]]]:
        with Store(tmp_path / f"{with_forgotten}.db") as store:
            store._db.execute("PRAGMA synchronous=OFF")
            harness = StoreHarness(store)
            harness.talk("an earlier one")
            forgotten = []
            for i in range(60):
                if i % 4 == 1 and not with_forgotten:
                    continue
                talk = harness.talk(f"question {i - i % 8 if i % 4 == 1 else i}")  # some contradict what stays
                talk.add("win", completion=f"answer {i}")
                if i % 4 == 1:
                    forgotten.append(talk)
            harness.promoted()
            store.forget(BASE, [talk.reply.id for talk in forgotten], store.active_version(BASE), [])
            for talk in forgotten:
                store.delete_conversation(talk.conversation_id)
            return [
                [(t.prompt[0]["content"], t.completion) for t in store.replay_wins(BASE, 8, [], seed)]
                + [(u.text, r.text) for u, r in store.unobjected_replies(8, seed)]
                for seed in range(25)
            ]

    without = drawn(with_forgotten=False)
    assert drawn(with_forgotten=True) == without
    assert all(len(set(chosen)) == 16 for chosen in without)


@pytest.mark.usefixtures("small_window")
def test_every_row_has_its_turn_however_small_the_window(store: Store, harness: StoreHarness) -> None:
    store._db.execute("PRAGMA synchronous=OFF")
    for i in range(40):
        harness.talk(f"question {i}").add("win")
    harness.promoted()
    wins = [t.id for seed in range(400) for t in store.replay_wins(BASE, 4, [], seed)]
    replies = [r.id for seed in range(400) for _, r in store.unobjected_replies(4, seed)]
    for ids in (wins, replies):
        # 400 x 4 draws among 40 are 40 each; keys are not evenly spaced, so a window of 8 takes some more often
        assert len(set(ids)) == 40 and max(map(ids.count, ids)) < 4 * 40


@pytest.mark.usefixtures("small_window")
def test_what_is_left_out_costs_no_place_in_the_choice(store: Store, harness: StoreHarness) -> None:
    store._db.execute("PRAGMA synchronous=OFF")
    wins = [harness.talk(f"question {i}").add("win")[0] for i in range(30)]
    harness.promoted()
    left_out = {t.id for t in wins[:20]}
    for seed in range(10):
        drawn = {t.id for t in store.replay_wins(BASE, 8, left_out, seed)}
        assert len(drawn) == 8 and not drawn & left_out
    assert {t.id for t in store.replay_wins(BASE, 100, left_out, 1)} == {t.id for t in wins[20:]}
    assert store.replay_wins(BASE, 0, [], 1) == []


def test_a_question_asked_again_is_one_anchor_with_its_oldest_reply(store: Store, harness: StoreHarness) -> None:
    first, other = harness.talk("asked again"), harness.talk("asked once")
    for _ in range(5):
        harness.talk("asked again")
    assert {r.id for _, r in store.unobjected_replies(10, 1)} == {first.reply.id, other.reply.id}


def test_a_key_is_the_same_in_every_program() -> None:
    # SHA-256 of "abc" begins ba7816bf 8f01cfea; its highest bit is the sign
    assert sampling.content_key("abc") == 0xBA7816BF8F01CFEA - 2**64
    assert sampling.content_key("") == 0xE3B0C44298FC1C14 - 2**64


# -- old databases -----------------------------------------------------------------------------------------------------


def test_an_old_database_becomes_what_a_new_one_is(
    store: Store, harness: StoreHarness, path: Path, tmp_path: Path
) -> None:
    lived_through(store, harness, seed=3)
    harness.talk("with \x00 and \ud800").add("win")
    store.close()
    old = tmp_path / "old.db"
    db = Database(sqlite3.connect(old, isolation_level=None))
    MIGRATIONS.apply(db, stop_before="m003_long_histories")
    tables = [t for t in db.table_names() if not t.startswith("_")]
    db.execute("ATTACH ? AS new", [str(path)])
    for table in tables:
        columns = ", ".join(column.name for column in db.table(table).columns)
        db.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM new.{table}")
    db.close()
    Store(old).close()
    with sqlite3.connect(path) as new, sqlite3.connect(old) as migrated:
        schema = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
        assert migrated.execute(schema).fetchall() == new.execute(schema).fetchall()
        for table in tables:
            query = f"SELECT * FROM {table} ORDER BY 1"
            assert migrated.execute(query).fetchall() == new.execute(query).fetchall(), table
    new.close()
    migrated.close()
