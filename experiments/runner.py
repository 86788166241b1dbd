"""One run from its settings to its result: rounds of clients, aggregation, evaluation, checkpoints. In one process."""

from __future__ import annotations

import dataclasses
import hashlib
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
from experiments.tasks import Rows, make_task
from federation.flower.strategy import ServerState, choose_clients, learning_rate, next_state
from federation.flower.streams import stream_seed
from services.models.built_in import model_folder
from spear_core.models.adapters import save_adapter
from spear_core.models.loading import LoadedModel, load_model
from spear_core.models.shared_base import lora_config

log = logging.getLogger(__name__)
DONE = "done.json"
CONVERTED = Path("runs")  # where a built-in model is converted to
UNTOUCHED = "untouched"  # folder of what the untouched model gets right
Clients = Callable[[int, Sequence[int], ServerState], list[ClientResult]]


class Simulation:
    """What does not change during a run: the data, its partition, and the runtime that plays and measures."""

    def __init__(self, run: Run, loaded: LoadedModel | None = None) -> None:
        self.run = run
        task = make_task(run.task, Path(run.data.folder) if run.data.folder else None, run.data.worked_examples)
        self.rows: Rows = task.load(run.data.train, run.data.test, run.data.seed)
        shape = (run.federation.clients, run.data.alpha, run.data.client_examples)
        self.shards = partition(self.rows.train, *shape, run.seed)
        self.runtime = ClientRuntime(
            loaded or load_named(run.model), task, run.spear, run.play, stream_seed(run.seed, "adapter") % 2**32
        )
        self.algorithm = ALGORITHMS[run.algorithm](run.options)

    def client(self, round: int, client: int, adapter: Any) -> ClientResult:
        rate = learning_rate(self.run.federation, round)
        streams = ClientStreams(self.run.seed, round, client)
        return client_round(self.runtime, self.algorithm, adapter, self.shards[client], streams, rate)

    def clients(self, round: int, chosen: Sequence[int], state: ServerState) -> list[ClientResult]:
        return [self.client(round, c, state.adapter) for c in chosen]


def load_named(name: str, device: str = "cpu") -> LoadedModel:
    """A model of a run file: a folder, a Hub id, or `smollm2`, which is made from its package where it is not there yet."""
    return load_model(model_folder(name, CONVERTED), device=device)


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
    done.unlink(missing_ok=True)  # of other settings: the lines that it speaks of are written over
    world = Simulation(run, loaded)
    saved = checkpoint.load(folder, run.digest)
    if saved is None:
        state, lines = ServerState(world.runtime.state()), []
        lines.append({"round": 0, **_untouched(world, state, out), "bad_rows": dict(world.rows.bad)})
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
    told = {"test_keys": [e.key for e in world.rows.test], "answers": [e.answer for e in world.rows.test]}
    text = json.dumps({"digest": run.digest, "run": run.record(), **told, "last": lines[-1]})
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


def _untouched(world: Simulation, state: ServerState, out: Path) -> dict[str, Any]:
    """What `_measured` says before the first round. All runs of a task with one model share it: it is measured once."""
    run = world.run
    decides = [
        run.task,
        world.runtime.loaded.fingerprint,
        str(world.runtime.loaded.model.dtype),
        [e.prompt for e in world.rows.test],
        run.spear.max_new_tokens,
        run.spear.micro_batch,
        run.spear.lora_layers,
        run.play.batch_size,
    ]
    digest = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
    file = out / UNTOUCHED / f"{run.task}-{digest}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps(_measured(world, state)) + "\n", encoding="utf-8")
        temporary.replace(file)
    return dict(json.loads(file.read_text(encoding="utf-8")))


def _last_accuracy(lines: Sequence[dict[str, Any]]) -> float:
    return next(line["accuracy"] for line in reversed(lines) if "accuracy" in line)
