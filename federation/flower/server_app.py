"""The ServerApp of a fleet of resident chat apps: hand out the adapter, take updates, aggregate, keep each round's result.

Run by `flwr run federation/flower`; its settings are in pyproject.toml beside it. No client data ever arrives here.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from safetensors.torch import save_file

from federation.flower.messages import ask
from federation.flower.start import read_start
from federation.flower.strategy import ServerState, StrategySettings, choose_clients, fitting, next_state

log = logging.getLogger(__name__)
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run all rounds of a fleet and write each round's adapter into the folder of the run."""
    config = context.run_config
    folder = Path(str(config["folder"]))
    start = read_start(folder / "start.safetensors")
    state, wins, told = ServerState(start.adapter), 0, start.words
    clients = int(config["clients"])
    while len(list(grid.get_node_ids())) < clients:  # nodes come when they come
        time.sleep(1)
    settings = StrategySettings(
        rounds=int(config["rounds"]),
        clients=clients,
        clients_a_round=int(config["clients-a-round"]),
        method=str(config["method"]),  # type: ignore[arg-type]
        max_weight=int(config["max-weight"]),
    )
    for round in range(settings.rounds):
        chosen = choose_clients(settings, int(config["seed"]), round)
        timeout = float(config["timeout-seconds"])
        answers = ask(grid, chosen, state.adapter, {**told, "wins": wins}, timeout, own_nodes=True)
        heard = fitting(state, [a.update for a in answers])
        state = next_state(state, heard, settings)
        wins = sum(min(c.weight, settings.max_weight) for c in heard) or wins
        temporary = folder / ".round.tmp"
        save_file({n: t.contiguous() for n, t in sorted(state.adapter.items())}, temporary)
        temporary.replace(folder / f"round-{round + 1:04d}.safetensors")
        log.info("round %d: %d of %d clients were heard", round + 1, len(heard), len(chosen))
