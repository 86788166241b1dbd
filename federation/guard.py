"""The access control of a peer host: who may send requests, how often, and of what size. No framework, no waiting.

All state is bounded: buckets for a fixed number of remote addresses, nonces and transfers of approved keys only, a
queue of join requests of fixed length. Requests of approved keys count against their key, all others against their address, so a
flood of strangers, even from the same address, does not shut out a peer; it costs one signature check a request.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from federation.addresses import network_of
from federation.canonical_json import strict_json
from federation.errors import AddressInvalid, RequestRefused
from federation.identity import PublicKey
from federation.join_requests import MAX_BODY_BYTES, MAX_NAME_CHARACTERS, JoinRequest
from federation.peer_host import PeerHost
from federation.peers import parse_address
from federation.request_signing import Nonces, RequestSignature, UsedRequest, parse_request_signature
from federation.update import MAX_UPDATE_BYTES

CARD, UPDATE, KNOCK = "/federation/card", "/federation/update", "/federation/knock"


@dataclass(frozen=True)
class GuardLimits:
    """Limits of the requests that a peer host accepts.

    Attributes:
        max_update_bytes: of a push.
        transfer_seconds: for a whole transfer, either way; at 2 Mbit/s 10 minutes are 150 MB.
        idle_seconds: without a byte, after which a transfer is given up.
        body_seconds: for a small body.
        clock_skew_seconds: how far the time of a signed request may be from this clock.
        requests_per_second, burst: of one key, or of one remote address.
        most_remotes: remote addresses that are told apart; the one not heard of for longest is forgotten.
        transfers_per_key: at once, each way.
    """

    max_update_bytes: int = MAX_UPDATE_BYTES
    transfer_seconds: float = 600.0
    idle_seconds: float = 30.0
    body_seconds: float = 10.0
    clock_skew_seconds: float = 900.0
    requests_per_second: float = 1.0
    burst: int = 60
    most_remotes: int = 1024
    transfers_per_key: int = 2


class Buckets:
    """Token buckets by name, for the `most` names used last."""

    def __init__(self, per_second: float, burst: int, most: int) -> None:
        self._per_second, self._burst, self._most = per_second, burst, most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # name -> (tokens, when)

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, name: str, now: float) -> bool:
        """Whether one more request is within the rate. `now` is in seconds of any clock that does not go back."""
        tokens, when = self._levels.pop(name, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - when) * self._per_second)
        self._levels[name] = (max(tokens - 1.0, 0.0) if tokens >= 1.0 else tokens, now)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)
        return tokens >= 1.0


class RequestGuard:
    """One for each peer host. Used from the server's event loop only."""

    def __init__(
        self,
        peer_host: PeerHost,
        limits: GuardLimits | None = None,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.peer_host = peer_host
        self.limits = limits or GuardLimits()
        self._clock, self._ticks = clock, ticks
        limit = self.limits
        self.strangers = Buckets(limit.requests_per_second, limit.burst, limit.most_remotes)
        self.peers = Buckets(limit.requests_per_second, limit.burst, limit.most_remotes)
        self.nonces = Nonces(limit.clock_skew_seconds, used=peer_host.used_requests())
        self._transfers: Counter[tuple[str, PublicKey]] = Counter()

    def pass_stranger(self, remote: str) -> None:
        """Count a request of an address. Raises RequestRefused (429)."""
        if not self.strangers.take(network_of(remote), self._ticks()):
            raise RequestRefused(429, "too many requests from this address; try again later", 60)

    def admit(self, method: str, path: str, header: str | None, remote: str) -> RequestSignature:
        """The verified signature of a request by an approved peer.

        Raises:
            RequestRefused: 401 for a bad signature, 403 for a key that nobody approved, 429 for too many requests.
        """
        try:
            found = parse_request_signature(header)
            approved = self.peer_host.approved(found.key)
            if approved and not found.verify(method, path, self.peer_host.identity.public):
                raise RequestRefused(401, "the request's signature does not hold for this peer")
            if approved:
                self._check_time(found)
        except RequestRefused:
            self.pass_stranger(remote)
            raise
        if not approved:
            self.pass_stranger(remote)
            raise RequestRefused(
                403, f"the key {found.key.fingerprint} is not approved here; ask to join and wait for approval"
            )
        if not self.peers.take(found.key.text, self._ticks()):
            raise RequestRefused(429, "too many requests of this peer; try again later", 60)
        if not self.nonces.use(found.key, found.nonce, found.time, self._clock()):
            raise RequestRefused(401, "the request was made before; make a new one")
        return found

    def used(self, found: RequestSignature) -> UsedRequest:
        """What has to be kept of an admitted request, so that no later process admits it again."""
        return UsedRequest(found.key, found.nonce, self.nonces.until(found.time, self._clock()))

    def _check_time(self, found: RequestSignature) -> None:
        apart = found.time - self._clock()
        if abs(apart) > self.limits.clock_skew_seconds:
            raise RequestRefused(401, f"the clocks are {abs(apart) / 60:.0f} minutes apart; set them right")

    def check_length(self, declared: str | None, most: int) -> int:
        """The body's length before any of it is read. Raises RequestRefused: 411 for none, 413 for too much."""
        if declared is None or not declared.isascii() or not declared.isdigit():
            raise RequestRefused(411, "the request must say its Content-Length")
        length = int(declared) if len(declared) <= 15 else most + 1
        if length > most:
            raise RequestRefused(413, f"the request's body is larger than {most} bytes")
        return length

    @contextmanager
    def transfer(self, kind: str, key: PublicKey, most: int | None = None) -> Iterator[None]:
        """Hold a place for one transfer. Raises RequestRefused (429) while the peer has too many under way."""
        name = (kind, key)
        if self._transfers[name] >= (most or self.limits.transfers_per_key):
            raise RequestRefused(429, "another transfer of this peer is under way; wait for it to end", 30)
        self._transfers[name] += 1
        try:
            yield
        finally:
            self._transfers[name] -= 1
            if not self._transfers[name]:
                del self._transfers[name]

    def join_request(self, header: str | None, body: bytes, body_sha256: str, remote: str) -> bool:
        """Add a peer to the join requests; returns whether it is approved already. The caller has counted the request.

        Signatures of unknown peers are not remembered: a join request that is replayed changes nothing.

        Raises:
            RequestRefused: 400 or 401 for a bad join request, 429 when too many wait.
        """
        found = parse_request_signature(header)
        if found.body_sha256 != body_sha256 or not found.verify("POST", KNOCK, self.peer_host.identity.public):
            raise RequestRefused(401, "the request's signature does not hold for this peer")
        self._check_time(found)
        if self.peer_host.approved(found.key):
            return True
        name, address = _parse_join_request(body, found.key)
        self.peer_host.join_requests.add(JoinRequest(found.key, name, address, remote, self._clock()))
        return False


def _parse_join_request(body: bytes, key: PublicKey) -> tuple[str, str]:
    """(name, address) that a peer claims. Raises RequestRefused (400)."""
    try:
        values = strict_json(body[: MAX_BODY_BYTES + 1])
        name, url = values["name"], values["url"]
        if not isinstance(name, str) or not isinstance(url, str) or set(values) != {"name", "url"}:
            raise ValueError("not two texts")
        address = str(parse_address(f"{url}#{key.text}")) if url else ""
    except (ValueError, KeyError, TypeError, AddressInvalid) as e:
        raise RequestRefused(400, "a request to join holds a name and a url") from e
    printable = "".join(c for c in name if c.isprintable())
    return printable[:MAX_NAME_CHARACTERS].strip(), address
