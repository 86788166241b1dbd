"""Votes through the API at a given rate, over the real app: `python -m benchmarks.load --part votes`.

The votes are about replies that are in the store when the app starts: answers of the pocket world in conversations of
TURNS questions, shared out among the users. Each reply gets one vote, four of five a thumbs-up, in a shuffled order. Votes
are sent at fixed moments, whether or not earlier ones were answered (an open loop), over at most CONNECTIONS connections;
a vote's time counts from the moment it was due, so that one that had to wait for a free connection is not flattered.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks.load_users import Ledger
from feedback_store import Store, UserStore
from pocket.tasks import SHAPES, draw_task
from pocket.world import load_world

TURNS = 20
CONNECTIONS = 32
UP = 0.8


def store_replies(database: Path, users: Sequence[str], count: int, seed: int) -> list[tuple[str, str]]:
    """(user, message id) of `count` stored replies."""
    rng, world = random.Random(seed), load_world()
    made: list[tuple[str, str]] = []
    with Store(database) as store:
        while len(made) < count:
            user = users[len(made) // TURNS % len(users)]
            tasks = [
                draw_task(world, rng.choice(SHAPES), rng, held_out=False, half_known=False)
                for _ in range(min(TURNS, count - len(made)))
            ]
            mine = UserStore(store, user)
            conversation = mine.begin_conversation("", [(t.question, t.answer) for t in tasks], True)
            made += [(user, m.id) for m in mine.messages(conversation.id) if m.role == "assistant"]
    return made


async def cast(
    url: str, keys: dict[str, str], replies: Sequence[tuple[str, str]], votes_a_minute: float, seed: int, ledger: Ledger
) -> float:
    """Cast one vote on each reply. Returns the seconds from the first moment due to the last answer."""
    rng = random.Random(seed + 1)
    order = [(user, message, "up" if rng.random() < UP else "down") for user, message in replies]
    rng.shuffle(order)
    due_votes: asyncio.Queue[tuple[float, str, str, str] | None] = asyncio.Queue()

    async def vote(client: httpx.AsyncClient, due: float, user: str, message: str, word: str) -> None:
        ledger.requests += 1
        headers = {"Authorization": f"Bearer {keys[user]}"}
        try:
            answer = await client.post("/v1/feedback", json={"message_id": message, "vote": word}, headers=headers)
        except httpx.HTTPError as error:
            ledger.errors.append(f"{type(error).__name__}: {error}")
            return
        if answer.status_code != 200:
            ledger.errors.append(f"{answer.status_code}: {answer.text[:200]}")
            return
        ledger.spoken.append(time.monotonic() - due)
        ledger.acknowledged += 1
        ledger.votes[message] = {"up": 1, "down": -1}[word]

    async def work(client: httpx.AsyncClient) -> None:
        while (said := await due_votes.get()) is not None:
            await vote(client, *said)

    # Votes wait in a queue of ours: httpx looks through all that wait for a connection whenever one is free, and with
    # thousands waiting the client would be what is measured.
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client, asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(work(client))
        began = time.monotonic()
        for number, (user, message, word) in enumerate(order):
            due = began + number * 60 / votes_a_minute
            if (left := due - time.monotonic()) > 0:
                await asyncio.sleep(left)
            due_votes.put_nowait((due, user, message, word))
        for _ in range(CONNECTIONS):
            due_votes.put_nowait(None)
    return time.monotonic() - began
