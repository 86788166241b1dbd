"""The ClientApp beside a resident chat app: gives it the fleet's adapter and hands its latest update on. It never trains.

The SuperNode's --node-config names the app (`resident`, an address with its key), the `folder` of this ClientApp's own
key, and, where 600 are not right, the `wait-seconds` for the app's answer.
"""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from federation.flower.messages import packed, unpacked
from federation.flower.resident import FleetAdapter, Resident

WAIT_SECONDS = 600.0
app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Hand the fleet's adapter to the resident app and answer with its latest update. Raises FederationError where the app refuses."""
    adapter, words = unpacked(message.content)
    config = context.node_config
    wait_seconds = float(config.get("wait-seconds", WAIT_SECONDS))
    resident = Resident(str(config["resident"]), Path(str(config["folder"])), wait_seconds)
    update, wins = resident.exchange(FleetAdapter.of(adapter, words))
    return Message(packed(update, {"client": words["client"], "weight": wins}), reply_to=message)
