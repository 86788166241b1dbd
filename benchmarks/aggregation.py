"""What merging costs and loses: `python -m benchmarks.aggregation [--json]`.

Every update is a file of its own with its own random factors, signed and written as a peer would, at the shape of a
rank-16 adapter on all linear layers of Qwen2.5-1.5B. In bfloat16, the default, 64 of them take 2.4 GB of disk in a
temporary folder; `--dtype float32` takes twice that. Seconds are of a warm page cache, on the wall and of processor time
(which tell a busy machine from a slow method); clipping is on, which reads every update twice. Private memory is what
the process has of its own above its level before the merge; mapped files are the page cache's and do not count. `check`
is everything that `check_update` does, for all files.

The second table is about the paper's `fedavg`, which averages A and B apart: how far the product of its averages is from
the average of the products as peers drift from their common parent in independent random directions, relative to that
average and to how far it is from the parent; and what of the change rank 16 cannot hold at best (`exact`).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.peak import watch_peak
from benchmarks.report import print_table
from benchmarks.shapes import DTYPES, SHAPES
from federation.aggregate import aggregate
from federation.aggregation_plan import METHODS, Contribution, MergeSettings, Parent
from federation.checks import Expected, check_update
from federation.factors import digest_of
from federation.identity import Identity
from federation.low_rank_products import low_rank_sum, product_norm
from federation.update import open_update, write_update

BAR_BYTES = 1 << 30
RANK, ALPHA = 16, 32
BASE = "0" * 16
NOW = 1_800_000_000
TRAINED_B = 0.01  # root mean square of B's entries in the parent; A has its usual first size
DRIFT = 0.3  # of the peers in the first table, relative to the parent
DRIFTS = (0.01, 0.03, 0.1, 0.3, 1.0)
DRIFT_PEERS = 8


def layer_shapes(shape: str, layers: int | None = None) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear layer but the head, by name."""
    config: Any = SHAPES[shape]
    hidden, wide = config.hidden_size, config.intermediate_size
    head = getattr(config, "head_dim", None) or hidden // config.num_attention_heads  # Qwen2's config names none
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    kinds = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (wide, hidden),
        "mlp.up_proj": (wide, hidden),
        "mlp.down_proj": (hidden, wide),
    }
    count = config.num_hidden_layers if layers is None else min(layers, config.num_hidden_layers)
    return {f"model.layers.{i}.{kind}": size for i in range(count) for kind, size in kinds.items()}


def random_adapter(
    shapes: dict[str, tuple[int, int]], seed: int, parent: dict[str, Tensor] | None = None, drift: float = 0.0
) -> dict[str, Tensor]:
    """A parent, or a peer at the given distance from one, relative to each of its tensors. Float32."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for layer, (out, in_) in shapes.items():
        for factor, size, rms in (("A", (RANK, in_), 1 / sqrt(3 * in_)), ("B", (out, RANK), TRAINED_B)):
            name = f"base_model.model.{layer}.lora_{factor}.weight"
            noise = torch.randn(size, generator=generator).mul_(rms)
            state[name] = noise if parent is None else noise.mul_(drift).add_(parent[name])
    return state


@dataclass(frozen=True)
class Cost:
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    residual: float | None = None


def costs(shape: str, layers: int | None, updates: int, dtype: str, folder: Path) -> tuple[dict[str, Cost], int]:
    """(seconds and memory of each method and of the checks, bytes of one update)."""
    shapes = layer_shapes(shape, layers)
    first = random_adapter(shapes, seed=0)
    parent = Parent(first, digest_of(first))
    authors, paths = [Identity.new() for _ in range(updates)], [folder / f"{i}.safetensors" for i in range(updates)]
    for i, (author, path) in enumerate(zip(authors, paths, strict=True)):
        state = {n: t.to(DTYPES[dtype]) for n, t in random_adapter(shapes, i + 1, first, DRIFT).items()}
        write_update(
            path, state, author, base=BASE, alpha=ALPHA, round=1, wins=i + 1, parent=parent.digest, created_at_utc=NOW
        )
    del state
    found: dict[str, Cost] = {}
    expected = Expected.of(first, BASE, ALPHA)
    with watch_peak("cpu") as peak:
        began, used = time.perf_counter(), time.process_time()
        for author, path in zip(authors, paths, strict=True):
            check_update(path, author.public, expected, None, NOW)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - used
    found["check"] = Cost(seconds, cpu_seconds, peak.bytes)
    for method in METHODS:
        with watch_peak("cpu") as peak:
            began, used = time.perf_counter(), time.process_time()
            contributions = [Contribution.of(open_update(path)) for path in paths]
            merged = aggregate(contributions, MergeSettings(method, clip=2.0), parent)
            seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - used
        found[method] = Cost(seconds, cpu_seconds, peak.bytes, merged.residual)
        del merged, contributions
    return found, paths[0].stat().st_size


def drift_errors(drift: float, shape: str = "qwen2.5-1.5b", peers: int = DRIFT_PEERS) -> dict[str, float]:
    """Errors of merging `peers` adapters of one square layer; Frobenius norms, the matrices themselves never formed."""
    name = "model.layers.0.self_attn.q_proj"
    layer = {name: layer_shapes(shape, 1)[name]}
    parent = random_adapter(layer, seed=0)
    states = [random_adapter(layer, i + 1, parent, drift) for i in range(peers)]
    a, b = (f"base_model.model.{name}.lora_{factor}.weight" for factor in "AB")
    share = 1 / peers
    mean_a, mean_b = (sum(s[n].double() for s in states) * share for n in (a, b))
    bs, as_ = [s[b] for s in states], [s[a] for s in states]
    average = product_norm(bs, as_, [share] * peers)
    change = product_norm([*bs, parent[b]], [*as_, parent[a]], [share] * peers + [-1.0])
    error = product_norm([*bs, mean_b], [*as_, mean_a], [share] * peers + [-1.0])  # type: ignore[list-item]
    lost = sqrt(low_rank_sum(bs, as_, [share] * peers).residual_square)
    return {
        "drift": drift,
        "fedavg_error_of_average": error / average,
        "fedavg_error_of_change": error / change,
        "exact_residual_of_average": lost / average,
        "exact_residual_of_change": lost / change,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen2.5-1.5b")
    parser.add_argument("--updates", type=int, default=64)
    parser.add_argument("--layers", type=int, help="only the first layers (default: all)")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bfloat16", help="of the files")
    parser.add_argument("--threads", type=int, default=0, help="torch threads (0: as many as torch chooses)")
    parser.add_argument("--folder", type=Path, help="where the files go meanwhile (default: the system's place)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the tables")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        found, size = costs(arguments.shape, arguments.layers, arguments.updates, arguments.dtype, Path(folder))
    drifts = [drift_errors(drift) for drift in DRIFTS]
    if arguments.json:
        settings = {name: getattr(arguments, name) for name in ("shape", "updates", "layers", "dtype")}
        settings["threads"] = torch.get_num_threads()
        report = {name: {k: v for k, v in vars(cost).items() if v is not None} for name, cost in found.items()}
        print(json.dumps({"update_bytes": size, "costs": report, "drifts": drifts, **settings}))
        return
    print(f"{arguments.updates} updates of {size / 1e6:.1f} MB, {torch.get_num_threads()} threads\n")
    print_table(
        ["", "seconds", "processor", f"private memory (bar {BAR_BYTES >> 20} MiB)", "residual"],
        [
            [
                name,
                f"{c.seconds:.1f}",
                f"{c.cpu_seconds:.1f}",
                f"{c.peak_bytes / (1 << 20):.0f} MiB",
                "" if c.residual is None else f"{c.residual:.3f}",
            ]
            for name, c in found.items()
        ],
    )
    print(f"\n{DRIFT_PEERS} peers, one 1536 x 1536 layer, rank {RANK}: error relative to the average (to its change)\n")
    print_table(
        ["drift", "fedavg", "exact"],
        [
            [
                f"{d['drift']:g}",
                f"{d['fedavg_error_of_average']:.4f} ({d['fedavg_error_of_change']:.3f})",
                f"{d['exact_residual_of_average']:.4f} ({d['exact_residual_of_change']:.3f})",
            ]
            for d in drifts
        ],
    )


if __name__ == "__main__":
    main()
