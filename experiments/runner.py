"""One run from its settings to its result: rounds of clients, aggregation, evaluation, checkpoints. In one process."""

from __future__ import annotations

import dataclasses
import json
import logging
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments import checkpoint
from experiments.algorithms import ALGORITHMS
from experiments.client import ClientResult, client_round
from experiments.client_runtime import ClientRuntime
from experiments.evaluate import right
from experiments.partition import partition
from experiments.play import ClientStreams
from experiments.settings import Run
from experiments.tasks import TASKS, Rows
from federation.flower.strategy import ServerState, choose_clients, learning_rate, next_state
from federation.flower.streams import stream_seed
from spear_core.models.adapters import save_adapter
from spear_core.models.loading import LoadedModel, load_model
from spear_core.models.shared_base import lora_config

log = logging.getLogger(__name__)
DONE = "done.json"
Clients = Callable[[int, Sequence[int], ServerState], list[ClientResult]]


class Simulation:
    """What does not change during a run: the data, its partition, and the runtime that plays and measures."""

    def __init__(self, run: Run, loaded: LoadedModel | None = None) -> None:
        self.run = run
        task = TASKS[run.task]()
        self.rows: Rows = task.load(run.data.train, run.data.test, run.data.seed)
        shape = (run.federation.clients, run.data.alpha, run.data.client_examples)
        self.shards = partition(self.rows.train, *shape, run.seed)
        self.runtime = ClientRuntime(
            loaded or load_model(run.model), task, run.spear, run.play, stream_seed(run.seed, "adapter") % 2**32
        )
        self.algorithm = ALGORITHMS[run.algorithm](run.options)

    def client(self, round: int, client: int, adapter: Any) -> ClientResult:
        rate = learning_rate(self.run.federation, round)
        streams = ClientStreams(self.run.seed, round, client)
        return client_round(self.runtime, self.algorithm, adapter, self.shards[client], streams, rate)

    def clients(self, round: int, chosen: Sequence[int], state: ServerState) -> list[ClientResult]:
        return [self.client(round, c, state.adapter) for c in chosen]


def play_run(
    run: Run, out: Path, loaded: LoadedModel | None = None, *, quiet: bool = False, clients: Clients | None = None
) -> dict[str, Any]:
    """Play a run to its end, from where an earlier attempt stopped. Returns its last line.

    `clients` plays the chosen clients of a round, given the server's state; without it they play here, one by one.
    Writes `rounds.jsonl` (a line a round, the first of the untouched model), `checkpoint.safetensors`, and at the end
    `adapter/` (a PEFT folder) and `done.json`.
    """
    folder = out / run.folder
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / DONE
    if done.exists() and json.loads(done.read_text())["digest"] == run.digest:
        return dict(json.loads(done.read_text())["last"])
    world = Simulation(run, loaded)
    saved = checkpoint.load(folder, run.digest)
    if saved is None:
        state, lines = ServerState(world.runtime.shared_models.state()), []
        lines.append({"round": 0, **_measured(world, state), "bad_rows": dict(world.rows.bad)})
        checkpoint.save(folder, state, run.digest, lines)
    else:
        state, lines = saved
        log.info("%s goes on after round %d", run.folder, lines[-1]["round"])
    bar = tqdm(total=run.federation.rounds, initial=len(lines) - 1, desc=run.folder, disable=quiet, unit="round")
    for round in range(len(lines) - 1, run.federation.rounds):
        results = (clients or world.clients)(round, choose_clients(run.federation, run.seed, round), state)
        state, line = after_round(world, round, state, results)
        lines.append(line)
        checkpoint.save(folder, state, run.digest, lines)
        bar.set_postfix(accuracy=f"{_last_accuracy(lines):.3f}", refresh=False)
        bar.update()
    bar.close()
    finish(world, state, lines, folder)
    return lines[-1]


def after_round(
    world: Simulation, round: int, state: ServerState, results: Sequence[ClientResult]
) -> tuple[ServerState, dict[str, Any]]:
    """Aggregate, and measure where it is due: the next state, and the round's line."""
    run = world.run
    began = time.perf_counter()
    state = next_state(state, [r.update for r in results], run.federation)
    line: dict[str, Any] = {
        "round": round + 1,
        "learning_rate": learning_rate(run.federation, round),
        "clients": {str(r.update.client): dataclasses.asdict(r.counts) for r in results},
        "aggregation_seconds": time.perf_counter() - began,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    if (round + 1) % run.evaluate_every == 0 or round + 1 == run.federation.rounds:
        line |= _measured(world, state)
    return state, line


def finish(world: Simulation, state: ServerState, lines: list[dict[str, Any]], folder: Path) -> None:
    """The adapter as a PEFT folder, and last of all the mark that the run is complete."""
    run = world.run
    manifest = {"run": run.folder, "digest": run.digest, "accuracy": _last_accuracy(lines)}
    save_adapter(
        folder / "adapter", state.adapter, lora_config(run.spear, world.runtime.shared_models.base), run.model, manifest
    )
    keys = [e.key for e in world.rows.test]
    text = json.dumps({"digest": run.digest, "run": dataclasses.asdict(run), "test_keys": keys, "last": lines[-1]})
    temporary = folder / f".{DONE}.tmp"
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(folder / DONE)


def _measured(world: Simulation, state: ServerState) -> dict[str, Any]:
    began = time.perf_counter()
    world.runtime.load(state.adapter)
    verdicts = right(world.runtime, world.rows.test)
    return {
        "accuracy": sum(verdicts) / len(verdicts),
        "right": "".join("01"[v] for v in verdicts),
        "evaluate_seconds": time.perf_counter() - began,
    }


def _last_accuracy(lines: Sequence[dict[str, Any]]) -> float:
    return next(line["accuracy"] for line in reversed(lines) if "accuracy" in line)
