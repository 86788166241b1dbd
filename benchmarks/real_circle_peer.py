"""One peer of benchmarks.real_circle: the application's services in a process of its own, told what to do."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.real_corrections import personal_facts, unrelated_questions
from benchmarks.real_learning import Progress, Study
from benchmarks.real_measures import Learned, Probe
from federation.aggregation_plan import Method
from services.app import AppServices, open_services
from services.peers.merging import NOTHING_NEW
from services.peers.settings import FederationSettings
from services.settings import Settings

STARTING_SECONDS = 30.0


class CountedBytes:
    """An ASGI application, and how many bytes of bodies went in and out of it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def received() -> Message:
            message = await receive()
            self.bytes += len(message.get("body", b""))
            return message

        async def sent(message: Message) -> None:
            self.bytes += len(message.get("body", b""))
            await send(message)

        await self.app(scope, received, sent)


class Peer:
    """The services over one data folder, and the facts of the whole circle."""

    def __init__(
        self,
        model: str,
        folder: Path,
        number: int,
        method: Method,
        threads: int,
        unrelated: int,
        share_questions: bool,
    ) -> None:
        torch.set_num_threads(threads)
        federation = FederationSettings(name=f"peer {number}", method=method, share_questions=share_questions)
        settings = Settings(model, folder, seed=number + 1, threads=threads, federation=federation)
        self.app: AppServices = open_services(settings, start_jobs=False)
        self.probe = Probe(self.app, unrelated_questions()[:unrelated])
        self.served: CountedBytes | None = None

    def teach(self, first: int, count: int, most: int, seed: int) -> dict[str, Any]:
        """Correct the application about facts of the stream, from `first` on, until `count` were taught or `most` met."""
        self.app.learning.prepare()
        stream = personal_facts(seed=seed)[first : first + most]
        study = Study(self.app, stream, self.probe, Progress())
        while len(study.progress.taught) < count and study.progress.met < len(stream):
            study.meet()
        done = study.progress
        return {
            "taught": [first + i for i in done.taught],
            "learned_same": done.same,
            "seconds_to_live": done.seconds_to_live,
        }

    def serve(self) -> dict[str, Any]:
        """Answer peers on a free port of loopback until the process ends."""
        self.served = CountedBytes(Starlette(routes=list(self.app.sync.routes())))
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(self.served, log_level="warning", lifespan="off"))
        threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
        deadline = time.monotonic() + STARTING_SECONDS
        while not server.started:
            if time.monotonic() > deadline:
                raise RuntimeError("the peer's server did not start")
            time.sleep(0.05)
        return {"address": f"http://127.0.0.1:{listening.getsockname()[1]}#{self.app.sync.identity.public.text}"}

    def meet(self, addresses: list[str]) -> dict[str, Any]:
        for address in addresses:
            self.app.sync.add(address)
        return {}

    def sync(self) -> dict[str, Any]:
        """One sync as the schedule would do it. `bytes` are those of bodies that this peer served since the last one."""
        merges = self.app.sync.view().merges
        began, processor = time.monotonic(), time.process_time()
        self.app.sync.sync()
        newest = self.app.sync.view().merges
        offer = self.app.sync.latest()
        is_decided = newest != merges and newest[0].words != NOTHING_NEW
        merged = newest[0].version is not None if is_decided else None
        return {
            "seconds": time.monotonic() - began,
            "processor_seconds": time.process_time() - processor,
            "merged": merged,
            "words": newest[0].words if newest != merges else "",
            "peers": [peer.words for peer in self.app.sync.view().peers],
            "update_bytes": offer.path.stat().st_size if offer else 0,
        }

    def take_bytes(self) -> dict[str, Any]:
        if self.served is None:
            return {"bytes": 0}
        counted, self.served.bytes = self.served.bytes, 0
        return {"bytes": counted}

    def measure(self, own: list[int], others: list[int], seed: int) -> dict[str, Any]:
        """Of what this peer serves now: its own facts, the others', their neighbours, and unrelated answers."""
        facts = personal_facts(seed=seed)
        of_own, of_others = (self.probe.learned([facts[i] for i in part]) for part in (own, others))
        return {
            "own_same": of_own.same,
            "own": of_own.wordings,
            "peers": of_others.wordings,
            "neighbour_leak": _together(of_own, of_others, len(own), len(others)),
            "answers_changed": self.probe.answers_changed(),
        }

    def close(self) -> dict[str, Any]:
        self.app.close()
        return {}


def _together(own: Learned, others: Learned, of_own: int, of_others: int) -> float:
    total = of_own + of_others
    return (own.neighbour_leak * of_own + others.neighbour_leak * of_others) / total if total else 0.0


def answer_questions(asking: Connection, log: Path, said: dict[str, Any]) -> None:
    """Be the peer that `said` describes, until it is asked to close. Questions and answers are JSON objects in bytes."""
    with log.open("a", buffering=1) as lines:
        os.dup2(lines.fileno(), 1)  # whatever a library prints
        os.dup2(lines.fileno(), 2)
    peer = Peer(**{**said, "folder": Path(said["folder"])})
    asking.send_bytes(b"{}")
    while True:
        try:
            asked = json.loads(asking.recv_bytes())
        except EOFError:  # whoever asked has gone
            return
        name = asked.pop("do")
        do: Callable[..., dict[str, Any]] = getattr(peer, name)
        asking.send_bytes(json.dumps(do(**asked)).encode())
        if name == "close":
            return
