"""A run on Flower's simulation instead of in one process: the same rounds, with the clients played in Ray's workers.

Nothing of the method is written again: `play_run` is handed a function that asks over Flower's grid.
Only `python -m experiments fleet FILE` imports this module, since it needs requirements-flower.txt.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from experiments.client import ClientResult, Counts
from experiments.runner import Simulation, play_run
from experiments.settings import Run
from federation.flower.messages import ask, packed, unpacked
from federation.flower.strategy import ServerState

TIMEOUT_SECONDS = 3600.0
_worlds: dict[
    str, Simulation
] = {}  # of this worker process: loading a model for each message would take longer than training


def play_on_flower(run: Run, out: Path, nodes: int) -> dict[str, Any]:
    """Like `play_run`. Returns its last line. Raises RuntimeError where the server app failed; Flower logged why."""
    found: list[dict[str, Any]] = []
    server, client = ServerApp(), ClientApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        def clients(round: int, chosen: Sequence[int], state: ServerState) -> list[ClientResult]:
            answers = ask(grid, chosen, state.adapter, {"round": round}, TIMEOUT_SECONDS)
            return [ClientResult(a.update, Counts(**json.loads(str(a.words["counts"])))) for a in answers]

        found.append(play_run(run, out, quiet=True, clients=clients))

    @client.train()
    def train(message: Message, context: Context) -> Message:
        adapter, words = unpacked(message.content)
        result = _world(run).client(int(words["round"]), int(words["client"]), adapter)
        said = {
            "client": result.update.client,
            "weight": result.update.weight,
            "counts": json.dumps(dataclasses.asdict(result.counts)),
        }
        return Message(packed(result.update.state, said), reply_to=message)

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": 1}}
    run_simulation(server, client, nodes, backend_config=resources)
    if not found:
        raise RuntimeError("the fleet's server app failed; see Flower's log above")
    return found[0]


def _world(run: Run) -> Simulation:
    if run.digest not in _worlds:
        torch.set_num_threads(1)  # as the in-process run: more threads add up in another order
        _worlds[run.digest] = Simulation(run)
    return _worlds[run.digest]
