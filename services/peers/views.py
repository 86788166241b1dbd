"""Views of the federation for the page: frozen, without behaviour, with public keys only."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_ADDRESS = re.compile(r"(?<![a-z])[a-z]+://\S*[^\s.,:;]", re.IGNORECASE)


HIDDEN = "owners see its address"


@dataclass(frozen=True)
class PeerView:
    """An approved peer."""

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
class JoinRequestView:
    """A peer that waits for approval. Everything but the key and its fingerprint is only its claim."""

    key: str
    fingerprint: str
    name: str
    url: str
    remote: str  # network address that it came from


@dataclass(frozen=True)
class MergeView:
    """A merge of updates and its outcome."""

    at_utc: str
    words: str  # the gate's
    version: int | None  # of the adapter that came of it; None where the old one kept serving
    peers: list[str]


@dataclass(frozen=True)
class CircleView:
    """This instance, its peers, join requests and merges."""

    fingerprint: str  # of this instance
    key: str
    url: str  # where peers can reach this instance; "" where that is not configured
    sync_every: str
    peers: tuple[PeerView, ...]
    join_requests: tuple[JoinRequestView, ...]
    merges: tuple[MergeView, ...]  # newest first
    shares_questions: bool = False  # whether taught questions are sent with the adapter


def without_addresses(circle: CircleView) -> CircleView:
    """The circle as guests see it: where peers are, and who wants to join from where, is for owners."""
    peers = [
        replace(
            p,
            url=HIDDEN if p.url else "",
            name=_hidden(p.name, p.fingerprint),
            words="The last contact failed." if p.failures else _hidden(p.words, "the peer"),
            unprotected=False,
        )
        for p in circle.peers
    ]
    merges = [
        replace(m, words=_hidden(m.words, "the peer"), peers=[_hidden(name, "a peer") for name in m.peers])
        for m in circle.merges
    ]
    return replace(circle, peers=tuple(peers), join_requests=(), merges=tuple(merges))


def _hidden(words: str, instead: str) -> str:
    return _ADDRESS.sub(instead, words)
