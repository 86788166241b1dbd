"""A small circle for the tests: random adapters, desks that keep everything in a folder, real servers on loopback."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import uvicorn
from starlette.applications import Starlette
from torch import Tensor

from federation.checks import Expected, Seen, check_update
from federation.guard import GuardLimits
from federation.identity import Identity, PublicKey
from federation.join_requests import JoinRequests
from federation.manifest import Manifest
from federation.peer_host import Offer
from federation.peers import PeerAddress
from federation.request_signing import UsedRequest
from federation.routes import routes
from federation.update import write_update

torch.set_num_threads(1)
BASE = "0123456789abcdef"
ALPHA = 4
NOW = 1_800_000_000
SHAPES = {"model.layers.0.self_attn.q_proj": (6, 5), "model.layers.0.mlp.down_proj": (7, 4)}  # (out, in)
A0 = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"
B0 = "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight"


def adapter(seed: int, rank: int = 2, size: float = 0.1, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A random adapter under PEFT's names."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for layer, (out, in_) in SHAPES.items():
        for factor, shape in (("A", (rank, in_)), ("B", (out, rank))):
            noise = torch.randn(shape, generator=generator) * size
            state[f"base_model.model.{layer}.lora_{factor}.weight"] = noise.to(dtype)
    return state


def write(path: Path, identity: Identity, state: dict[str, Tensor] | None = None, **said: Any) -> Manifest:
    """An update that fits `expected()`, unless told otherwise."""
    words = {"base": BASE, "alpha": ALPHA, "round": 1, "wins": 3, "parent": "", "created_at_utc": NOW, **said}
    return write_update(path, adapter(1) if state is None else state, identity, **words)


def expected() -> Expected:
    return Expected.of(adapter(0), BASE, ALPHA)


def split_file(path: Path) -> tuple[dict[str, Any], bytes]:
    """(header, data) of a safetensors file, for tampering."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def join_file(path: Path, header: dict[str, Any] | bytes, data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@dataclass
class FolderDesk:
    """The smallest app there can be; approved keys and what arrived are plain attributes."""

    folder: Path
    identity: Identity = field(default_factory=Identity.new)
    base: str = BASE
    join_requests: JoinRequests = field(default_factory=JoinRequests)
    keys: set[PublicKey] = field(default_factory=set)
    offer: Offer | None = None
    seen: dict[PublicKey, Seen] = field(default_factory=dict)
    received: list[Path] = field(default_factory=list)
    now: float = NOW
    used: list[UsedRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def inbox(self) -> Path:
        return self.folder

    def approved(self, key: PublicKey) -> bool:
        return key in self.keys

    def latest(self) -> Offer | None:
        return self.offer

    def used_requests(self) -> list[UsedRequest]:
        return self.used

    def keep_used_request(self, used: UsedRequest) -> None:
        self.used.append(used)

    def receive(self, author: PublicKey, path: Path) -> None:
        checked = check_update(path, author, expected(), self.seen.get(author), self.now)
        self.seen[author] = checked.seen
        kept = self.folder / f"kept-{author.fingerprint}.safetensors"
        path.replace(kept)
        self.received.append(kept)

    def publish(self, **said: Any) -> Manifest:
        """Write an update and offer it, under a name of its own, as offered files never change."""
        path = self.folder / f"own-{said.get('round', 1)}-{said.get('created_at_utc', NOW)}.safetensors"
        manifest = write(path, self.identity, **said)
        self.offer = Offer(path, manifest.etag, manifest.round)
        return manifest

    def partial(self) -> list[Path]:
        return list(self.folder.glob("*.part"))


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """Serve an ASGI app on loopback; the url."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(5)
        listener.close()


@contextmanager
def serving(peer_host: FolderDesk, limits: GuardLimits | None = None) -> Iterator[PeerAddress]:
    """Serve a peer; its address."""
    with listening(Starlette(routes=routes(peer_host, limits))) as url:
        yield PeerAddress(url, peer_host.identity.public)


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that says whatever `answer` writes into each connection; the url."""
    listener = socket.create_server(("127.0.0.1", 0))

    def loop() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(65536)
                    answer(connection)
                except OSError:
                    pass

    threading.Thread(target=loop, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
