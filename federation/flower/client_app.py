"""The ClientApp beside a resident chat app: gives it the fleet's adapter and hands its latest update on. It never trains.

The resident app is a peer like any other: its update is pulled and the fleet's is pushed over loopback, signed with a key
that the app's owner has approved once (`federation.exchange`). What the app makes of it is the app's own decision, by
its own gate. The SuperNode's --node-config names the app (`resident`, an address with its key) and the `folder` of this
ClientApp's own key.
"""

from __future__ import annotations

import time
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from federation.aggregate import AdapterState
from federation.checks import Expected, check_update
from federation.errors import FederationError
from federation.exchange import PeerClient, Pulled
from federation.flower.messages import packed, unpacked
from federation.keys import Identity, open_identity
from federation.manifest import Manifest
from federation.peers import parse_address
from federation.update import open_update, write_update

WAIT_SECONDS, POLL_SECONDS = 600.0, 1.0
app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    adapter, words = unpacked(message.content)
    folder = Path(str(context.node_config["folder"]))
    resident = Resident(str(context.node_config["resident"]), folder)
    update, wins = resident.exchange(adapter, int(words["round"]))
    return Message(packed(update, {"client": words["client"], "weight": wins}), reply_to=message)


class Resident:
    """The chat app on this machine, as its ClientApp sees it."""

    def __init__(self, address: str, folder: Path) -> None:
        self.folder = folder
        self.identity: Identity = open_identity(folder / "fleet.key")
        self.address = parse_address(address)
        self.client = PeerClient(self.identity, self.address)

    def exchange(self, adapter: AdapterState, round: int) -> tuple[AdapterState, int]:
        """Push the fleet's adapter, wait for an update made since, and return its tensors and number of wins.

        The update before the first round counts as it is: nothing has been merged yet.

        Raises:
            FederationError: if the app cannot be reached, refuses, or offers nothing new within ten minutes.
        """
        pulled = self.client.pull(self.folder)
        if pulled is None:
            raise FederationError("the resident app has no update to give yet; it will be asked again next round")
        if round > 0:
            manifest = open_update(pulled.path).manifest
            self._hand_over(adapter, manifest)
            pulled.path.unlink()
            pulled = self._newer(pulled.etag)
        try:
            manifest = open_update(pulled.path).manifest
            expected = Expected.of(adapter, manifest.base, manifest.alpha)
            update = check_update(pulled.path, self.address.key, expected, None, time.time()).update
            return {name: update.tensors[name].clone() for name in update.tensors}, manifest.wins
        finally:
            pulled.path.unlink(missing_ok=True)

    def _hand_over(self, adapter: AdapterState, manifest: Manifest) -> None:
        """Sign the fleet's adapter as an update of this key and push it. The clock counts its rounds: it never goes back."""
        outgoing, now = self.folder / "outgoing.safetensors", int(time.time())
        write_update(
            outgoing,
            adapter,
            self.identity,
            base=manifest.base,
            alpha=manifest.alpha,
            round=now,
            wins=0,
            parent="",
            created_at_utc=now,
        )
        self.client.push(outgoing)

    def _newer(self, etag: str) -> Pulled:
        deadline = time.monotonic() + WAIT_SECONDS
        while (pulled := self.client.pull(self.folder, etag)) is None:
            if time.monotonic() > deadline:
                raise FederationError("the resident app offered no new update in time; is its gate refusing?")
            time.sleep(POLL_SECONDS)
        return pulled
