"""Signed requests between peers. No network.

A signature is one header, `Spear-Pass: key.time.nonce.digest.signature`. The signature covers method, path, the key of the
peer that is asked (it is invalid anywhere else), time, nonce and the SHA-256 of the body. Every request but the
public card carries one, pushes of self-signed updates too: so a stranger is turned away before a byte of the body is
read, and one rule serves all. A header of its own, because reverse proxies use `Authorization` for themselves.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from federation.errors import RequestRefused
from federation.identity import SIGNATURE_BYTES, Identity, PublicKey, from_text, to_text

HEADER = "Spear-Pass"
PURPOSE = "request"
NO_BODY = hashlib.sha256(b"").hexdigest()
MAX_PASS_CHARACTERS = 400
NONCE_BYTES = 16
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True)
class RequestSignature:
    """A request's credentials as read, not yet verified; `time` is in seconds since 1970."""

    key: PublicKey
    time: int
    nonce: str
    body_sha256: str
    signature: bytes

    def verify(self, method: str, path: str, asked: PublicKey) -> bool:
        """Whether the key signed this request to this peer."""
        message = _message(method, path, asked, self.time, self.nonce, self.body_sha256)
        return self.key.verify(PURPOSE, message, self.signature)


def _message(method: str, path: str, asked: PublicKey, time: int, nonce: str, body_sha256: str) -> bytes:
    return "\n".join((method, path, asked.text, str(time), nonce, body_sha256)).encode()


def sign_request(
    identity: Identity, asked: PublicKey, method: str, path: str, now: float, body_sha256: str = NO_BODY
) -> str:
    """The header's value. `path` is the endpoint's, without what a reverse proxy puts before it."""
    nonce = to_text(secrets.token_bytes(NONCE_BYTES))
    signature = identity.sign(PURPOSE, _message(method, path, asked, int(now), nonce, body_sha256))
    return ".".join((identity.public.text, str(int(now)), nonce, body_sha256, to_text(signature)))


def parse_request_signature(value: str | None) -> RequestSignature:
    """Raises RequestRefused (401) if the header is missing or not a signature."""
    if value is None:
        raise RequestRefused(401, f"the request carries no {HEADER} header")
    parts = value.split(".") if len(value) <= MAX_PASS_CHARACTERS else []
    try:
        key, time, nonce, digest, signature = parts
        from_text(nonce, NONCE_BYTES)
        if not _TIME.fullmatch(time) or not _DIGEST.fullmatch(digest):
            raise ValueError("not a time and a digest")
        return RequestSignature(PublicKey.parse(key), int(time), nonce, digest, from_text(signature, SIGNATURE_BYTES))
    except ValueError as e:
        raise RequestRefused(401, f"the {HEADER} header is damaged") from e


@dataclass(frozen=True)
class UsedRequest:
    """A signature that is not accepted a second time.

    Attributes:
        until: seconds since 1970 from which its time alone is refused, and it can be forgotten.
    """

    key: PublicKey
    nonce: str
    until: float


class Nonces:
    """Signatures that were used, so that none is used twice, whatever becomes of the key's approval meanwhile.

    Bounded: only those of keys that were approved at the time are kept, for as long as their times are accepted, and no
    more than `most_per_key`.

    Args:
        used: those that an earlier process accepted.
    """

    def __init__(self, window_seconds: float, most_per_key: int = 4096, used: Iterable[UsedRequest] = ()) -> None:
        self._window = window_seconds
        self._most = most_per_key
        self._used: dict[PublicKey, dict[str, float]] = {}  # nonce -> when it can be forgotten
        self._swept = 0.0
        for request in used:
            self._used.setdefault(request.key, {})[request.nonce] = request.until

    def __len__(self) -> int:
        return sum(len(used) for used in self._used.values())

    def use(self, key: PublicKey, nonce: str, time: float, now: float) -> bool:
        """Whether the request is new; False too while the key has more requests in use than are kept."""
        if (
            now - self._swept > self._window or len(self._used.get(key, ())) >= self._most // 2
        ):  # seldom: it looks at all
            self._sweep(now)
        used = self._used.setdefault(key, {})
        if nonce in used or len(used) >= self._most:
            return False
        used[nonce] = self.until(time, now)
        return True

    def until(self, time: float, now: float) -> float:
        """When a signature of this time can be forgotten."""
        return max(now, time) + self._window

    def _sweep(self, now: float) -> None:
        self._swept = now
        left = {key: {n: until for n, until in used.items() if until >= now} for key, used in self._used.items()}
        self._used = {key: used for key, used in left.items() if used}
