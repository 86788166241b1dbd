"""The chat app on this machine, as a fleet's ClientApp sees it: a peer on loopback. Needs no Flower.

Its update is pulled and the fleet's adapter is pushed, signed with a key that the app's owner has approved once
(`federation.client`). The app decides by its own gate whether it uses the adapter.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federation.aggregate import AdapterState
from federation.checks import Expected, check_update
from federation.client import PeerClient, Pulled
from federation.errors import FederationError
from federation.identity import Identity, open_identity
from federation.peers import parse_address
from federation.update import write_update

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class FleetAdapter:
    """What the server hands out.

    Attributes:
        adapter: the fleet's tensors.
        base, alpha, parent: as in `manifest.Manifest`; the parent is the first adapter of all apps.
        wins: how many wins speak through it: those of the clients it was made of, each up to the server's cap. An app
            counts them up to its own cap, like any peer's. 0 before the first round: there is nothing to hand over.
    """

    adapter: AdapterState
    base: str
    alpha: int
    parent: str
    wins: int

    @classmethod
    def of(cls, adapter: AdapterState, words: Mapping[str, Any]) -> FleetAdapter:
        """From a message's words."""
        return cls(adapter, str(words["base"]), int(words["alpha"]), str(words["parent"]), int(words["wins"]))


class Resident:
    """One chat app. `folder` keeps the ClientApp's key; `wait_seconds` should be longer than the app's --sync-every."""

    def __init__(self, address: str, folder: Path, wait_seconds: float) -> None:
        self.folder = folder
        self.wait_seconds = wait_seconds
        self.identity: Identity = open_identity(folder / "fleet.key")
        self.address = parse_address(address)
        self.client = PeerClient(self.identity, self.address)

    def exchange(self, fleet: FleetAdapter) -> tuple[AdapterState, int]:
        """Push the fleet's adapter and return the app's tensors and its number of wins.

        An app that merges what it was given answers with the result. One that refuses it, or finds nothing new in it,
        has its own adapter to give, after `wait_seconds`.

        Raises:
            FederationError: if the app cannot be reached, refuses the push, or has no adapter at all.
        """
        before = self._pull()
        try:
            if fleet.wins > 0:
                self._hand_over(fleet)
                before = self._newer(before)
            if before is None:
                raise FederationError("the resident app has no update to give yet; it will be asked again next round")
            return self._checked(before.path, fleet)
        finally:
            if before is not None:
                before.path.unlink(missing_ok=True)

    def _pull(self, etag: str = "") -> Pulled | None:
        return self.client.pull(self.folder, etag)

    def _hand_over(self, fleet: FleetAdapter) -> None:
        """Sign the fleet's adapter as an update of this key and push it. The clock counts its rounds: it never goes back."""
        outgoing, now = self.folder / "outgoing.safetensors", int(time.time())
        write_update(
            outgoing,
            fleet.adapter,
            self.identity,
            base=fleet.base,
            alpha=fleet.alpha,
            round=now,
            wins=fleet.wins,
            parent=fleet.parent,
            created_at_utc=now,
        )
        self.client.push(outgoing)

    def _newer(self, before: Pulled | None) -> Pulled | None:
        """What the app offers once it is another than before, or after the waiting time the same."""
        deadline = time.monotonic() + self.wait_seconds
        while time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            if newer := self._pull(before.etag if before else ""):
                if before:
                    before.path.unlink()
                return newer
        return before

    def _checked(self, path: Path, fleet: FleetAdapter) -> tuple[AdapterState, int]:
        expected = Expected.of(fleet.adapter, fleet.base, fleet.alpha)
        update = check_update(path, self.address.key, expected, None, time.time()).update
        return {name: update.tensors[name].clone() for name in update.tensors}, update.manifest.wins
