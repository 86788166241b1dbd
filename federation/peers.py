"""Addresses of peers, and the backoff before the next contact. Pure functions; no network."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from federation.errors import AddressInvalid, shown
from federation.identity import PublicKey

MAX_ADDRESS_CHARACTERS = 500


@dataclass(frozen=True)
class PeerAddress:
    """A peer: where it answers, and the key it is pinned to.

    Attributes:
        url: scheme, host, port and, behind a reverse proxy, a path; no slash at the end.
        key: nothing that another key signed is taken from this peer.
    """

    url: str
    key: PublicKey

    def __str__(self) -> str:
        return f"{self.url}#{self.key.text}"

    @property
    def unprotected(self) -> bool:
        """Whether others on the way can read along: plain http to another machine."""
        parts = urlsplit(self.url)
        return parts.scheme == "http" and not _is_loopback(parts.hostname or "")


def parse_address(text: str) -> PeerAddress:
    """Read `http://host:7860#<key>` (https too, and a path), the key being url-safe base64 of 32 bytes.

    Raises:
        AddressInvalid: with the part that is wrong.
    """
    example = "write it as http://host:7860#<key>"
    if len(text) > MAX_ADDRESS_CHARACTERS or not text.isprintable() or any(c.isspace() for c in text.strip()):
        raise AddressInvalid(f"{shown(text)!r} is not a peer address; {example}")
    url, _, key = text.strip().partition("#")
    if not key:
        raise AddressInvalid(f"the peer address {shown(text)} lacks the peer's key; {example}")
    try:
        pinned = PublicKey.parse(key)
    except ValueError as e:
        raise AddressInvalid(f"the key after # in {shown(text)} is not a peer key; copy it again, all of it") from e
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise AddressInvalid(f"the peer address {shown(text)} cannot be read; {example}") from e
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise AddressInvalid(f"the peer address {shown(text)} names no http host; {example}")
    if parts.username is not None or parts.password is not None or parts.query:
        raise AddressInvalid(f"the peer address {shown(text)} must hold no user, password or query; {example}")
    return PeerAddress(url.rstrip("/"), pinned)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def backoff_seconds(failures: int, jitter: float, base_seconds: float = 15.0, most_seconds: float = 3600.0) -> float:
    """How long to leave a peer alone after so many failures in a row: doubling, half of it by chance.

    Args:
        failures: failures in a row; 0 means no wait.
        jitter: a random number in [0, 1), so that peers that failed together do not all return together.
        base_seconds: the wait after the first failure.
        most_seconds: the longest wait.

    Returns:
        Seconds in [d/2, d), d = min(most, base * 2^(failures-1)).
    """
    if failures <= 0:
        return 0.0
    delay = min(most_seconds, base_seconds * 2.0 ** min(failures - 1, 60))
    return delay * (0.5 + 0.5 * jitter)
