"""What the services show of the circle: frozen views, no behaviour, no keys but public ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PeerView:
    key: str  # public key; what `remove` takes
    fingerprint: str  # 16 hex digits to compare by voice
    name: str
    url: str  # "" where only the peer comes to us
    words: str  # how the last contact went
    contact_at_utc: str | None
    failures: int  # in a row
    round: int | None  # of the newest update taken from it
    unprotected: bool  # plain http to another machine


@dataclass(frozen=True)
class KnockView:
    """A peer that waits for a yes. All but the key and its fingerprint is only what it says of itself."""

    key: str
    fingerprint: str
    name: str
    url: str
    remote: str  # network address that it came from


@dataclass(frozen=True)
class MergeView:
    at_utc: str
    words: str  # the gate's
    version: int | None  # of the adapter that came of it; None where the old one kept serving
    peers: list[str]


@dataclass(frozen=True)
class CircleView:
    fingerprint: str  # of this instance
    key: str
    url: str  # where peers can reach this instance; "" where that is not configured
    sync_every: str
    peers: tuple[PeerView, ...]
    join_requests: tuple[KnockView, ...]
    merges: tuple[MergeView, ...]  # newest first
