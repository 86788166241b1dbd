"""The interface that the exchange needs from the app: `PeerHost`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from federation.identity import Identity, PublicKey
from federation.join_requests import JoinRequests
from federation.request_signing import UsedRequest

PARTIAL_PREFIX, PARTIAL_SUFFIX = ".incoming-", ".part"


@dataclass(frozen=True)
class Offer:
    """The latest update of this instance: a file that never changes once it is offered, and its manifest's words."""

    path: Path
    etag: str
    round: int


class PeerHost(Protocol):
    """The app, as the exchange sees it.

    Attributes:
        identity: this instance's key pair.
        base: fingerprint of the base model.
        inbox: folder for files that are coming in; nothing else lives there (`clear_partial` sweeps it).
        join_requests: unknown peers that wait for approval, which the page shows.
    """

    @property
    def identity(self) -> Identity: ...

    @property
    def base(self) -> str: ...

    @property
    def inbox(self) -> Path: ...

    @property
    def join_requests(self) -> JoinRequests: ...

    def approved(self, key: PublicKey) -> bool:
        """Whether a person approved this key and has not taken it back. Asked on every request: answer from memory."""
        ...

    def latest(self) -> Offer | None:
        """The update to give to approved peers; None for none yet. Asked on every request: answer from memory."""
        ...

    def used_requests(self) -> Iterable[UsedRequest]:
        """Signatures that an earlier process accepted. Asked once, at the start."""
        ...

    def keep_used_request(self, used: UsedRequest) -> None:
        """Keep it for `used_requests` of a later process, at least until its time. Called in a worker thread.

        Raises:
            FederationError: the request is refused, since it could be repeated.
        """
        ...

    def receive(self, author: PublicKey, path: Path) -> None:
        """Judge an update that `author` pushed (`checks.check_update`) and keep it by moving or copying the file.

        Called in a worker thread, for one push of a peer at a time; whatever is left at `path` is removed afterwards.
        The peer waits for the answer, so merging is for another time.

        Raises:
            UpdateReplayed: the peer is told that it is known already.
            UpdateRefused: the peer is told the reason.
        """
        ...


def clear_partial(inbox: Path) -> int:
    """Remove what an earlier, killed process left half received; call it once at start. Returns the number of files."""
    left = list(inbox.glob(f"{PARTIAL_PREFIX}*{PARTIAL_SUFFIX}"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)
