"""How corrections spread in a circle: k peers, each corrected about other facts, merge again and again.

`python -m benchmarks.spread [--peers 3] [--facts 6] [--syncs 5] [--seeds 1] [--only fedavg exact] [--json]`
Every peer is a workbench of its own in this process, corrected by the simulated user; merging, training of the own
corrections and the gate are the app's. In each sync all peers merge what all had before it. Figures as in
docs/METRICS.md: `own` and `peers` are learned_paraphrase of the facts that a peer, or the others, were corrected about,
the mean over the peers; `retention_drop` is the worst peer's. The network is `benchmarks.circle`'s subject.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.live_learning import Study
from benchmarks.report import add_common_flags, print_table
from federation.aggregation_plan import Contribution, MergeSettings
from pocket.tasks import Task
from pocket.wordings import OPEN, split
from pocket.world import Fact, load_world
from services.app import AppServices, open_services
from services.peers.merging import NOTHING_NEW
from services.settings import Settings

RETENTION_QUESTIONS = 250
VARIANTS: dict[str, MergeSettings] = {
    "fedavg": MergeSettings("fedavg"),
    "exact": MergeSettings("exact"),
    "fedavg x1.5": MergeSettings("fedavg", scale=1.5),
    "exact x1.5": MergeSettings("exact", scale=1.5),
    "fedavg xk": MergeSettings("fedavg", scale=3.0),
    "fedavg clipped": MergeSettings("fedavg", clip=1.5),
    "trimmed_mean": MergeSettings("trimmed_mean"),
    "median": MergeSettings("median"),
}


def open_peer(model: str, folder: Path, number: int, threads: int = 1) -> AppServices:
    """The workbench of one peer, without a schedule."""
    settings = Settings(model=model, data_folder=folder, seed=number, threads=threads)
    app = open_services(settings, start_jobs=False)
    app.learning.prepare()
    return app


def correct(model: str, folder: Path, number: int, facts: Sequence[Fact], rng: random.Random) -> list[str]:
    """One peer is corrected about its facts by the simulated user. Returns the keys of those that were learned."""
    study = Study(open_peer(model, folder, number), number, 0.0)
    try:
        for i, fact in enumerate(facts):
            study.meet(i, fact, rng.choice(split(OPEN[fact.relation], held_out=False)))
        return study.tally.corrected
    finally:
        study.app.close()


class Circle:
    """Peers that were corrected, in folders under `folder`."""

    def __init__(self, model: str, folder: Path, peers: int, facts: int, seed: int) -> None:
        self.model, self.folder, self.seed = model, folder, seed
        world, rng = load_world(), random.Random(seed)
        drawn = rng.sample([f for f in world.facts if f.half_known], peers * facts)
        self.names = [f"peer{i}" for i in range(peers)]
        keys = [
            correct(model, folder / name, seed * 100 + i, drawn[i * facts : (i + 1) * facts], rng)
            for i, name in enumerate(self.names)
        ]
        self.facts = [[world.fact(key) for key in of_peer] for of_peer in keys]

    def seed_of(self, number: int) -> int:
        return self.seed * 100 + number

    def figures(self, studies: Sequence[Study]) -> dict[str, float]:
        """Of what the peers serve now."""
        own, others, drops = [], [], []
        for i, study in enumerate(studies):
            tasks: list[list[Task]] = [[t for f in facts for t in study.held_out(f)] for facts in self.facts]
            own.append(study.share_right(tasks[i]))
            others.append(study.share_right([t for j, of_peer in enumerate(tasks) if j != i for t in of_peer]))
            known = study.retention[:RETENTION_QUESTIONS]
            drops.append(100 * (study.share_right(known, frozen=True) - study.share_right(known)))
        return {"own": mean(own), "peers": mean(others), "worst_peers": min(others), "retention_drop": max(drops)}


def spread(circle: Circle, settings: MergeSettings, syncs: int, folder: Path) -> list[dict[str, Any]]:
    """Figures before the first sync and after each one."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(circle.folder, folder)
    apps = [open_peer(circle.model, folder / name, circle.seed_of(i)) for i, name in enumerate(circle.names)]
    studies = [Study(app, circle.seed_of(i), 0.0) for i, app in enumerate(apps)]
    found: list[dict[str, Any]] = [{"sync": 0, **circle.figures(studies), "refused": 0}]
    try:
        for sync in range(1, syncs + 1):
            voices = [_voice(name, app) for name, app in zip(circle.names, apps, strict=True)]
            outcomes = [
                app.sync.merging.merge(name, [v for v in voices if v.peer != name], settings)
                for name, app in zip(circle.names, apps, strict=True)
            ]
            refused = sum(outcome.version is None and outcome.words != NOTHING_NEW for outcome in outcomes)
            found.append({"sync": sync, **circle.figures(studies), "refused": refused})
            print(settings.method, settings.scale, found[-1], file=sys.stderr, flush=True)
    finally:
        for app in apps:
            app.close()
    return found


def _voice(name: str, app: AppServices) -> Contribution:
    state = app.learning.lineage.state
    assert state is not None, f"{name} learned nothing"
    wins = app.engine.store.count_learned(app.engine.base)
    return Contribution(name, state, wins, app.sync.merging.first.digest)


def run(arguments: argparse.Namespace) -> dict[str, list[list[dict[str, Any]]]]:
    """Per variant and seed, the figures after each sync."""
    torch.set_num_threads(arguments.threads or 1)
    results: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in arguments.only}
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            circle = Circle(arguments.model, Path(folder) / "corrected", arguments.peers, arguments.facts, seed)
            for name in arguments.only:
                results[name].append(spread(circle, VARIANTS[name], arguments.syncs, Path(folder) / "circle"))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.add_argument("--peers", type=int, default=3)
    parser.add_argument("--facts", type=int, default=6, help="that each peer is corrected about")
    parser.add_argument("--syncs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    arguments = parser.parse_args()
    results = run(arguments)
    if arguments.json:
        print(json.dumps(results))
        return
    shown = ("own", "peers", "worst_peers", "retention_drop", "refused")
    print_table(
        ["aggregation", "sync", *shown],
        [
            [name, str(sync), *(f"{mean(run[sync][figure] for run in runs):.2f}" for figure in shown)]
            for name, runs in results.items()
            for sync in range(arguments.syncs + 1)
        ],
    )


if __name__ == "__main__":
    main()
