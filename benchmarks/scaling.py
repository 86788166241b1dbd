"""A round's bytes, seconds and memory from 10 to 100,000 clients: `python -m benchmarks.scaling [--json]`.

Measured here: the size of one adapter update as Flower carries it (float32), and the processor seconds of merging updates.
Simulated from these: a tree in which every server takes in at most `fan_in` updates and hands one on, its transfers one
after another on its line. A tree of weighted means is the weighted mean of all (each server passes its summed weight on),
so `fedavg` may be nested. `median`, `trimmed_mean` and `exact` may not: a median of medians is another statistic, and
cutting to rank r at every level loses more each time.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.aggregation import layer_shapes, random_adapter
from benchmarks.report import print_table
from federation.aggregate import aggregate
from federation.aggregation_plan import Contribution, MergeSettings

CLIENTS = (10, 100, 1_000, 10_000, 100_000)
SHARE, FEWEST = 0.1, 10  # of the clients, that take part in a round; at least so many
REPEATS = 3


@dataclass(frozen=True)
class Costs:
    """Of one update, and of merging `fan_in` of them on one core."""

    update_bytes: int
    merge_seconds: float
    fan_in: int


@dataclass(frozen=True)
class Level:
    """A row of the tree: how many servers, and what the busiest of them takes in."""

    servers: int
    updates: int


def tree(participants: int, fan_in: int) -> list[Level]:
    """Levels from the leaves to the one root."""
    levels: list[Level] = []
    incoming = participants
    while True:
        servers = math.ceil(incoming / fan_in)
        levels.append(Level(servers, min(incoming, fan_in)))
        if servers == 1:
            return levels
        incoming = servers


def simulate(participants: int, costs: Costs, megabit_per_second: float) -> dict[str, float]:
    """One round's path from the clients to the root and back, its transfers one after another at each server."""
    levels = tree(participants, costs.fan_in)
    per_update = costs.merge_seconds / costs.fan_in
    wire = 8 * costs.update_bytes / (megabit_per_second * 1e6)
    up = sum(level.updates * (wire + per_update) for level in levels)
    down = sum(level.updates * wire for level in levels)
    return {
        "participants": participants,
        "levels": len(levels),
        "servers": sum(level.servers for level in levels),
        "round_gigabytes": 2 * costs.update_bytes * (participants + sum(x.servers for x in levels[:-1])) / 1e9,
        "busiest_server_gigabytes": 2 * costs.update_bytes * max(x.updates for x in levels) / 1e9,
        "seconds": up + down,
        "merge_seconds": sum(level.updates * per_update for level in levels),
        # a server holds its round's answers until all are there, and the adapter that it handed out and makes again
        "server_megabytes": costs.update_bytes * (max(x.updates for x in levels) + 2) / 1e6,
    }


def measure(shape: str, fan_in: int) -> Costs:
    """Merge random rank-16 updates of a shape on one core; processor seconds, the median of three."""
    torch.set_num_threads(1)
    shapes = layer_shapes(shape)
    sample = min(fan_in, 8)  # more cost evenly more: they are added up one after another
    states = [random_adapter(shapes, seed) for seed in range(sample)]
    contributions = [Contribution(f"{i:03d}", state, 1) for i, state in enumerate(states)]
    seconds = []
    for _ in range(REPEATS):
        began = time.process_time()
        merged = aggregate(contributions, MergeSettings()).state
        seconds.append(time.process_time() - began)
    size = sum(t.numel() * t.element_size() for t in merged.values())
    return Costs(size, statistics.median(seconds) * fan_in / sample, fan_in)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="qwen2.5-1.5b")
    parser.add_argument("--fan-in", type=int, default=100)
    parser.add_argument("--megabits", type=float, default=1000.0, help="of each server's line, per second")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    costs = measure(arguments.shape, arguments.fan_in)
    rows: list[dict[str, Any]] = []
    for clients in CLIENTS:
        participants = max(FEWEST, round(SHARE * clients))
        rows.append({"clients": clients, **simulate(participants, costs, arguments.megabits)})
    if arguments.json:
        print(json.dumps({"update_bytes": costs.update_bytes, "merge_seconds": costs.merge_seconds, "rows": rows}))
        return
    print(f"one update {costs.update_bytes / 1e6:.1f} MB; merging {costs.fan_in}: {costs.merge_seconds:.2f} s")
    header = list(rows[0])
    print_table(
        header, [[f"{row[k]:.4g}" if isinstance(row[k], float) else str(row[k]) for k in header] for row in rows]
    )


if __name__ == "__main__":
    main()
