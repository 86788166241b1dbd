"""Many users at once on the real app, and what they waited for: `python -m benchmarks.load --users 50 --minutes 10 --json`.

`--part chat` (the default): simulated users (load_users.py), each with a login and an API key of their own, chat, vote,
hint and judge revisions over the HTTP API of app.py, so that rounds train throughout. `--part votes --votes 10000`: votes
alone, so many a minute (load_votes.py). Afterwards the app is ended, and every acknowledged word is looked for in its
database.

A wait is the time from sending a question to the first text of its reply, over HTTP. `worst_wait_over_median` is the
longest one of all over the median of all. Memory is the resident set of the app's process, every SAMPLE_SECONDS; the
first fifth of the time is warm-up, and the growth is what the robust line (Theil-Sen) through the other samples rises from
its begin to its end.

`plain_write_seconds`: 4 KiB written through to the same disk by the users' own process, four times a second, from the event
loop that measures the waits. No word is acknowledged before it is on the disk. `longest_waits` and `slowest_writes` say
when each came, (second of the run, how long): of waits beside slow writes the reason lies not in the app alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.app_process import App, running_app
from benchmarks.load_users import Ledger, LoadUser
from benchmarks.load_votes import cast, store_replies
from benchmarks.real_figures import percentile
from benchmarks.report import add_common_flags, print_table
from services.accounts.users_file import add_user, make_key
from services.app import DATABASE

SAMPLE_SECONDS = 5.0
WRITE_EVERY_SECONDS = 0.25
WARM_UP = 0.2  # of the time
MIB = 2**20
BARS = {"errors": 0, "words_lost": 0, "worst_wait_over_median": 5.0, "memory_growth_percent": 5.0}
LOGGED = re.compile(r" (WARNING|ERROR|CRITICAL) ")
Samples = list[tuple[float, float]]  # (seconds, MiB)


def make_users(file: Path, count: int) -> dict[str, str]:
    """Name -> API key. The first one is the owner."""
    names = [f"user{number:03d}" for number in range(count)]
    for name in names:
        add_user(file, name, "guest" if name != names[0] else "owner", "a password of a simulated user")
    return {name: make_key(file, name) for name in names}


async def sample_memory(pid: int, into: Samples) -> None:
    """Until it is cancelled."""
    process, began = psutil.Process(pid), time.monotonic()
    while True:
        into.append((round(time.monotonic() - began, 1), round(process.memory_info().rss / MIB, 1)))
        await asyncio.sleep(SAMPLE_SECONDS)


async def sample_disk(file: Path, into: Samples) -> None:
    """(second, seconds until 4 KiB were on the disk and the event loop went on), until it is cancelled."""

    def write_through() -> None:
        with file.open("wb") as opened:
            opened.write(os.urandom(4096))
            opened.flush()
            os.fsync(opened.fileno())

    began = time.monotonic()
    while True:
        at = time.monotonic()
        await asyncio.to_thread(write_through)
        into.append((at - began, time.monotonic() - at))
        await asyncio.sleep(WRITE_EVERY_SECONDS)


async def chat(
    app: App, model: str, keys: dict[str, str], arguments: argparse.Namespace, ledger: Ledger, disk_file: Path
) -> tuple[Samples, Samples]:
    """Samples of memory and of plain writes to `disk_file`."""
    memory: Samples = []
    disk: Samples = []
    ledger.began = time.monotonic()
    until = ledger.began + 60 * arguments.minutes
    limits = httpx.Limits(max_connections=4 * len(keys))
    async with httpx.AsyncClient(base_url=app.url, limits=limits, timeout=120) as client:
        sampling = [
            asyncio.create_task(sample_memory(app.pid, memory)),
            asyncio.create_task(sample_disk(disk_file, disk)),
        ]
        users = [LoadUser(client, name, key, arguments.seed, ledger) for name, key in keys.items()]
        async with asyncio.TaskGroup() as group:
            for user in users:
                group.create_task(user.live(until, model))
        for task in sampling:
            task.cancel()
    return memory, disk


def longest(samples: Samples, count: int = 5) -> Samples:
    """The `count` longest of (second, seconds), the longest first."""
    return [(round(at, 1), round(seconds, 3)) for at, seconds in sorted(samples, key=lambda s: -s[1])[:count]]


def growth_percent(samples: Samples) -> float:
    """After the warm-up, of the line through the median of all slopes."""
    warm = [(t, m) for t, m in samples if t >= WARM_UP * samples[-1][0]]
    slopes = [(m2 - m1) / (t2 - t1) for i, (t1, m1) in enumerate(warm) for t2, m2 in warm[i + 1 :] if t2 > t1]
    if not slopes:
        return 0.0
    slope = statistics.median(slopes)
    start = statistics.median(m - slope * (t - warm[0][0]) for t, m in warm)
    return 100 * slope * (warm[-1][0] - warm[0][0]) / start


def stored(database: Path, ledger: Ledger) -> dict[str, int]:
    """What was acknowledged, how much of it is in the database as it was said, and votes there that nobody cast."""
    with closing(sqlite3.connect(database)) as db:
        votes = dict(db.execute("SELECT message_id, value FROM votes"))
        verdicts = dict(db.execute("SELECT id, verdict FROM messages WHERE verdict IS NOT NULL"))
        hints = list(db.execute("SELECT message_id, text FROM hints"))
        edits = dict(db.execute("SELECT id, text FROM messages WHERE kind = 'edit'"))
    kept = {
        "votes": sum(votes.get(message) == value for message, value in ledger.votes.items()),
        "verdicts": sum(verdicts.get(message) == verdict for message, verdict in ledger.verdicts.items()),
        "hints": sum(hint in hints for hint in ledger.hints),
        "edits": sum(edits.get(message) == text for message, text in ledger.edits.items()),
    }
    said = {
        "votes": len(ledger.votes),
        "verdicts": len(ledger.verdicts),
        "hints": len(ledger.hints),
        "edits": len(ledger.edits),
    }
    return {
        **{f"{name}_acknowledged": count for name, count in said.items()},
        **{f"{name}_stored": count for name, count in kept.items()},
        "votes_never_cast": len(votes.keys() - ledger.votes.keys()),
        "words_lost": sum(said.values()) - sum(kept.values()),
    }


def rounds(database: Path) -> dict[str, int]:
    with closing(sqlite3.connect(database)) as db:
        return dict(db.execute("SELECT status, count(*) FROM rounds GROUP BY status"))


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    ordered = sorted(seconds)
    return {
        "count": len(ordered),
        "p50": round(statistics.median(ordered), 3),
        "p95": round(percentile(ordered, 0.95), 3),
        "worst": round(ordered[-1], 3),
    }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        folder, ledger = Path(temporary), Ledger()
        data, log = folder / "data", folder / "log"
        data.mkdir()
        keys = make_users(folder / "users.json", arguments.users)
        flags = ["--auth-file", str(folder / "users.json"), "--seed", str(arguments.seed)]
        if arguments.threads:
            flags += ["--threads", str(arguments.threads)]
        figures: dict[str, Any] = {"users": arguments.users}
        if arguments.part == "votes":
            replies = store_replies(data / DATABASE, list(keys), arguments.votes, arguments.seed)
            with running_app(arguments.model, data, flags, log) as app:
                seconds = asyncio.run(cast(app.url, keys, replies, arguments.rate, arguments.seed, ledger))
                figures["memory_mib"] = round(psutil.Process(app.pid).memory_info().rss / MIB, 1)
            figures["votes_a_minute"] = round(60 * ledger.acknowledged / seconds, 1)
        else:
            with running_app(arguments.model, data, flags, log) as app:
                model = Path(arguments.model).name
                samples, disk = asyncio.run(chat(app, model, keys, arguments, ledger, folder / "plain"))
            median = statistics.median(ledger.first_text) if ledger.first_text else 0.0
            figures |= {
                "minutes": arguments.minutes,
                "worst_wait_over_median": round(max(ledger.first_text) / median, 2) if median else None,
                "share_of_waits_over_5_medians": sum(w > 5 * median for w in ledger.first_text)
                / max(1, len(ledger.first_text)),
                "first_text_seconds": quantiles(ledger.first_text),
                "reply_end_seconds": quantiles(ledger.reply_end),
                "revision_end_seconds": quantiles(ledger.revision_end),
                "median_of_a_user_seconds": quantiles([statistics.median(w) for w in ledger.waits_of.values()]),
                "longest_waits": longest(list(zip(ledger.asked_at, ledger.first_text, strict=True))),
                "plain_write_seconds": quantiles([seconds for _, seconds in disk]),
                "slowest_writes": longest(disk),
                "memory_growth_percent": round(growth_percent(samples), 2),
                "memory_mib_samples": samples,
            }
        logged = [line for line in log.read_text(errors="replace").splitlines() if LOGGED.search(line)]
        return {
            **figures,
            "requests": ledger.requests,
            "errors": len(ledger.errors),
            "errors_seen": sorted(set(ledger.errors))[:5],
            "vote_seconds": quantiles(ledger.spoken),
            **stored(data / DATABASE, ledger),
            "rounds": rounds(data / DATABASE),
            "warnings_logged": len(logged),
            "warnings_seen": sorted({line.split(" ", 2)[-1][:200] for line in logged})[:5],
            "load_average": round(os.getloadavg()[0], 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.add_argument("--part", choices=("chat", "votes"), default="chat")
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10.0, help="of chatting")
    parser.add_argument("--votes", type=int, default=10_000, help="of the part `votes`, one a reply")
    parser.add_argument("--rate", type=float, default=10_000.0, help="votes a minute")
    arguments = parser.parse_args()
    figures = run(arguments)
    if arguments.json:
        print(json.dumps(figures))
    else:
        rows = [[k, str(v), str(BARS.get(k, ""))] for k, v in figures.items() if k != "memory_mib_samples"]
        print_table(["figure", "value", "bar"], rows)


if __name__ == "__main__":
    main()
