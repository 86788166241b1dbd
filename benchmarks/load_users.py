"""Simulated users of a running app, over its HTTP API: what they do, and what they remember of it. No app, no figures.

A user asks (three questions of five about half-known facts of the pocket world, the others about what the model knows),
reads the reply, and speaks to it by the task's own verdict: a right reply gets a thumbs-up four times of five. A wrong one
gets a partial hint three times of four, else a thumbs-down; the revision is called better or still wrong, and after the
last wrong one the user edits the reply one time of two. One time of three the conversation goes on, to four questions at
most. Between reading and speaking, and before the next question, the user waits `pause` seconds.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from pocket.simulated_user import SimulatedUser
from pocket.tasks import SHAPES, Task, draw_task, open_task
from pocket.wordings import OPEN, split
from pocket.world import load_world

MEDIAN_PAUSE_SECONDS, PAUSE_SIGMA = 4.0, 0.6  # lognormal: half of the pauses are from 2.7 to 6 s
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 20.0
MOST_QUESTIONS = 4  # in one conversation


class Refused(Exception):
    """An answer that was no success, or a stream that did not end well. Already counted."""


@dataclass
class Ledger:
    """What all users saw and what was acknowledged to them; times in seconds."""

    began: float = 0.0  # of the monotonic clock
    requests: int = 0
    errors: list[str] = field(default_factory=list)
    first_text: list[float] = field(default_factory=list)  # from sending a question to the first text of its reply
    asked_at: list[float] = field(default_factory=list)  # second of the run, one for each of first_text
    reply_end: list[float] = field(default_factory=list)  # to the end of the reply
    revision_end: list[float] = field(default_factory=list)  # from sending a hint to the whole revision
    spoken: list[float] = field(default_factory=list)  # a vote, verdict or edit
    waits_of: dict[str, list[float]] = field(default_factory=dict)  # user -> first_text
    votes: dict[str, int] = field(default_factory=dict)  # message -> the last acknowledged vote
    verdicts: dict[str, str] = field(default_factory=dict)  # revision -> better | still_wrong
    hints: list[tuple[str, str]] = field(default_factory=list)  # (message, hint), in the order of acknowledgement
    edits: dict[str, str] = field(default_factory=dict)  # edit's message -> text
    acknowledged: int = 0  # votes, verdicts, hints and edits, each time one was said


class LoadUser:
    def __init__(self, client: httpx.AsyncClient, name: str, key: str, seed: int, ledger: Ledger) -> None:
        self.name = name
        self._client = client
        self._headers = {"Authorization": f"Bearer {key}"}
        self._rng = random.Random(f"{seed}:{name}")
        self._judge = SimulatedUser(seed)
        self._judge.rng = self._rng
        self._ledger = ledger
        self._world = load_world()
        self._half_known = [f for f in self._world.facts if f.half_known]

    async def live(self, until: float, model: str) -> None:
        """Until that moment of the monotonic clock; what is under way then is finished."""
        await asyncio.sleep(self._rng.random() * MEDIAN_PAUSE_SECONDS)  # they do not all come at once
        history: list[dict[str, str]] = []
        while time.monotonic() < until:
            if len(history) >= 2 * MOST_QUESTIONS or self._rng.random() > 1 / 3:
                history = []
            task = self._question()
            history.append({"role": "user", "content": task.question})
            try:
                message, text = await self._ask(model, history)
                history.append({"role": "assistant", "content": text})
                await self._pause()
                if time.monotonic() < until:
                    await self._answer(task, message, text)
            except Refused:
                history = []
            except httpx.HTTPError as error:
                self._ledger.errors.append(f"{type(error).__name__}: {error}")
                history = []
            await self._pause()

    def _question(self) -> Task:
        if self._rng.random() < 0.6:
            fact = self._rng.choice(self._half_known)
            wording = self._rng.choice(split(OPEN[fact.relation], held_out=False))
            return open_task(self._world, fact, wording)
        return draw_task(self._world, self._rng.choice(SHAPES), self._rng, held_out=False, half_known=False)

    async def _pause(self) -> None:
        drawn = MEDIAN_PAUSE_SECONDS * self._rng.lognormvariate(0, PAUSE_SIGMA)
        await asyncio.sleep(min(max(drawn, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS))

    async def _answer(self, task: Task, message: str, text: str) -> None:
        """Say what the reply was worth, to the end of the matter."""
        chance = self._rng.random()
        if task.verdict(text):
            if chance < 0.8:
                await self._vote(message, "up")
            return
        if chance >= 0.75:
            await self._vote(message, "down")
            return
        correction, about = self._judge.correct(task), message
        while True:
            revision, text = await self._hint(message, about, correction.hint(text))
            await self._pause()
            if task.verdict(text):
                await self._judged(message, revision, "better")
                return
            if not await self._judged(message, revision, "still_wrong"):
                break
            about = revision
        if self._rng.random() < 0.5:
            await self._edit(message, task.answer)

    # -- requests --------------------------------------------------------------------------------------------

    async def _ask(self, model: str, history: list[dict[str, str]]) -> tuple[str, str]:
        """Message id and text of the streamed reply."""
        body = {"model": model, "messages": history, "stream": True}
        ledger, began, first, text, message = self._ledger, time.monotonic(), 0.0, "", ""
        ledger.requests += 1
        async with self._client.stream("POST", "/v1/chat/completions", json=body, headers=self._headers) as answer:
            if answer.status_code != 200:
                await answer.aread()
                self._refused(answer)
            last = ""
            async for line in answer.aiter_lines():
                if not line.startswith("data: "):
                    continue
                last = line.removeprefix("data: ")
                if last == "[DONE]":
                    break
                event = json.loads(last)
                if "error" in event:
                    self._refuse(f"in a stream: {event['error']['message']}")
                message = event["message_id"]
                added = event["choices"][0]["delta"].get("content", "")
                if added and not text:
                    first = time.monotonic()
                text += added
        if last != "[DONE]":
            self._refuse("a stream without an end")
        if not text:
            self._refuse("an empty reply")
        ledger.asked_at.append(began - ledger.began)
        ledger.first_text.append(first - began)
        ledger.reply_end.append(time.monotonic() - began)
        ledger.waits_of.setdefault(self.name, []).append(first - began)
        return message, text

    async def _vote(self, message: str, vote: str) -> None:
        await self._say({"message_id": message, "vote": vote}, self._ledger.spoken)
        self._ledger.votes[message] = {"up": 1, "down": -1}[vote]

    async def _hint(self, message: str, about: str, hint: str) -> tuple[str, str]:
        """Id and text of the revision."""
        said = await self._say({"message_id": about, "hint": hint}, self._ledger.revision_end)
        self._ledger.votes[message] = -1
        self._ledger.hints.append((about, hint))
        return said["revision"]["message_id"], said["revision"]["text"]

    async def _judged(self, message: str, revision: str, verdict: str) -> bool:
        """Whether another hint may be given."""
        said = await self._say({"message_id": revision, "verdict": verdict}, self._ledger.spoken)
        self._ledger.votes[message] = -1
        self._ledger.verdicts[revision] = verdict
        return bool(said["more_hints_allowed"])

    async def _edit(self, message: str, text: str) -> None:
        said = await self._say({"message_id": message, "edit": text}, self._ledger.spoken)
        self._ledger.votes[message] = -1
        self._ledger.edits[said["revision"]["message_id"]] = text

    async def _say(self, said: dict[str, str], times: list[float]) -> dict[str, Any]:
        began = time.monotonic()
        self._ledger.requests += 1
        answer = await self._client.post("/v1/feedback", json=said, headers=self._headers)
        if answer.status_code != 200:
            self._refused(answer)
        times.append(time.monotonic() - began)
        self._ledger.acknowledged += 1
        return dict(answer.json())

    def _refused(self, answer: httpx.Response) -> None:
        self._refuse(f"{answer.status_code}: {answer.text[:200]}")

    def _refuse(self, what: str) -> None:
        self._ledger.errors.append(what)
        raise Refused(what)
