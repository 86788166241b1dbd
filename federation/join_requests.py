"""Join requests: unknown peers that wait for approval. Few, in memory only; after a restart they ask again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from federation.addresses import network_of
from federation.errors import RequestRefused
from federation.identity import PublicKey

MAX_NAME_CHARACTERS = 60
MAX_BODY_BYTES = 2048


@dataclass(frozen=True)
class JoinRequest:
    """One request to be approved. Everything but the key, which signed it, is only a claim.

    Attributes:
        key: what would be approved.
        name: what the peer calls itself; printable, at most 60 characters, "" for nothing.
        address: `url#key` where it says it can be reached, "" for nowhere.
        remote: the network address it came from.
        at: seconds since 1970.
    """

    key: PublicKey
    name: str
    address: str
    remote: str
    at: float


class JoinRequests:
    """The queue of join requests. Safe to use from several threads.

    A full queue refuses new requests instead of dropping old ones: a flood must not push out an honest peer.
    """

    def __init__(self, most: int = 32, most_per_remote: int = 4, expire_seconds: float = 7 * 86_400.0) -> None:
        self._most = most
        self._most_per_remote = most_per_remote
        self._expire_seconds = expire_seconds
        self._waiting: OrderedDict[PublicKey, JoinRequest] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, join_request: JoinRequest) -> None:
        """Remember a join request; a second one of the same key replaces the first. Raises RequestRefused (429) when full."""
        with self._lock:
            for key in [k for k, old in self._waiting.items() if join_request.at - old.at > self._expire_seconds]:
                del self._waiting[key]
            if join_request.key not in self._waiting:
                network = network_of(join_request.remote)
                same = sum(network_of(old.remote) == network for old in self._waiting.values())
                if len(self._waiting) >= self._most or same >= self._most_per_remote:
                    raise RequestRefused(429, "too many peers are waiting for approval here; try again later", 3600)
            self._waiting[join_request.key] = join_request

    def waiting(self) -> list[JoinRequest]:
        """In the order they came."""
        with self._lock:
            return list(self._waiting.values())

    def remove(self, key: PublicKey) -> JoinRequest | None:
        """Remove a request, approved or not; None if there was none."""
        with self._lock:
            return self._waiting.pop(key, None)
