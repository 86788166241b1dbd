"""Exceptions of the exchange between peers, under SpearError. Each message is one sentence that says what to do."""

from __future__ import annotations

from spear_core.errors import SpearError

SHOWN_CHARACTERS = 80


def shown(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """A stranger's text, fit to stand inside a message: printable ASCII only, no longer than `limit` characters."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text[: limit + 1])
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."


class FederationError(SpearError):
    """Root of the exceptions of this package."""


class IdentityUnusable(FederationError):
    """The key file of this instance is damaged or cannot be kept to its owner."""


class AddressInvalid(FederationError):
    """A peer address that is not `http://host:port#<key>`."""


class UpdateRefused(FederationError):
    """An update that must not be merged; `reason` is the sentence that says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UpdateReplayed(UpdateRefused):
    """The very update that was taken last; harmless, for a push was only repeated."""


class MergeImpossible(FederationError):
    """The updates cannot be aggregated as asked: no weight, different tensors, or no common parent."""


class PeerUnavailable(FederationError):
    """The peer cannot be reached, is too slow, or is busy: try again later, after `retry_after_seconds` if given."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class PeerRefused(FederationError):
    """The peer refused the request; `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class PeerUntrusted(FederationError):
    """The answer violates the protocol: another key, a redirect, or too large."""


class RequestRefused(FederationError):
    """The server refuses a request with this HTTP status."""

    def __init__(self, status: int, sentence: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after_seconds = retry_after_seconds
