"""Of ten peers three want harm: what the aggregations make of it. `python -m benchmarks.poisoning [--json]`.

Every honest peer is corrected about a random half of the same half-known facts. In each round all start from the common
adapter, train on their own corrections, and the differences are aggregated: the setting of a fleet, in which robust
statistics have the common parent that they need. The harmful ones send, with a huge win count:

- `flipped`: five times the opposite of what they learned;
- `backdoor`: five times what makes the model call everything it knows well by a wrong name, one fact a peer;
- `random`: noise of five times the length of an honest difference.

`overall_gain` as in docs/METRICS.md, over the facts in held-out wordings and the retention questions that are named.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.live_learning import Study
from benchmarks.report import add_common_flags, print_table
from benchmarks.spread import open_peer
from federation.aggregate import aggregate
from federation.aggregation_plan import Contribution, MergeSettings, Parent
from federation.factors import digest_of
from pocket.tasks import Task, open_task
from pocket.wordings import OPEN, open_answer, split
from pocket.world import Fact, load_world
from spear_core.models.prompts import template_token_ids
from spear_core.models.shared_base import AdapterState
from spear_core.training.material import Material
from spear_core.training.round import Learner
from spear_core.training.traces import TrainingTrace
from spear_core.training.trainer import Trainer

PEERS, HARMFUL, STRENGTH = 10, 3, 5.0
CLAIMED_WINS = 1_000_000
LOCAL_STEPS = 24  # of one peer in one round, at most
ATTACKS = ("none", "flipped", "backdoor", "random")
AGGREGATIONS = {
    "fedavg": MergeSettings("fedavg"),
    "fedavg clipped": MergeSettings("fedavg", clip=1.0),
    "trimmed_mean clipped": MergeSettings("trimmed_mean", clip=1.0, trim=0.3),
    "median clipped": MergeSettings("median", clip=1.0),
}


def corrections(facts: Sequence[Fact], rng: random.Random, truth: str = "") -> list[TrainingTrace]:
    """One confirmed answer a fact, in a random training wording; `truth` is said instead of the true one."""
    world, wins = load_world(), []
    for fact in facts:
        task = open_task(world, fact, rng.choice(split(OPEN[fact.relation], held_out=False)))
        wins.append(
            TrainingTrace("win", [{"role": "user", "content": task.question}], open_answer(fact, truth or fact.truth))
        )
    return wins


class Peer:
    """One member of the fleet: what it was corrected about, and whether it means well."""

    def __init__(self, number: int, facts: Sequence[Fact], attack: str, seed: int) -> None:
        self.name = f"peer{number}"
        self.attack = attack if number < HARMFUL else "none"
        self.rng = random.Random(seed * 1_000 + number)
        mine = self.rng.sample(list(facts), len(facts) // 2)
        self.wins = corrections(mine, self.rng)
        if self.attack == "backdoor":
            known = self.rng.sample([f for f in load_world().of("kind") if not f.half_known], len(mine))
            self.wins = corrections(known, self.rng, truth="fish")

    def update(self, learner: Learner, current: AdapterState, seed: int) -> AdapterState:
        """What it sends after one round on top of `current`."""
        learner.shared_models.load(current)
        encoded = [learner.encoder.trace(w) for w in self.wins]
        anchors = learner.anchors.without({e.prompt_ids for e in encoded}) if self.attack == "none" else None
        template = template_token_ids(learner.encoder.tokenizer)
        config = learner.config.replace(max_steps=LOCAL_STEPS)
        Trainer(learner.shared_models.training, config, learner.pad_id, template).train(
            Material(encoded, [], [], anchors), seed
        )
        state = learner.shared_models.state()
        factor = {"none": 1.0, "flipped": -STRENGTH, "backdoor": STRENGTH, "random": STRENGTH}[self.attack]
        change = {name: state[name] - current[name] for name in state}
        if self.attack == "random":
            torch.manual_seed(seed)
            change = {n: torch.randn_like(c) * c.norm() / max(1.0, c.numel() ** 0.5) for n, c in change.items()}
        return {name: current[name] + factor * change[name] for name in state}


class Fleet:
    """The common model, and the questions that are asked of it."""

    def __init__(self, study: Study, learner: Learner, facts: Sequence[Fact], retention: int) -> None:
        self.study, self.learner, self.facts = study, learner, facts
        self.known = study.retention[:retention]
        self.half_known: list[Task] = [task for fact in facts for task in study.held_out(fact)]
        self.frozen = self.overall(learner.shared_models.initial)
        self._done: dict[tuple[str, str, str], AdapterState] = {}  # the first round is the same for all aggregations

    def overall(self, state: AdapterState) -> tuple[float, float, float]:
        """(share right of all questions, of the facts, of the retention questions)."""
        self.learner.shared_models.publish(state, 1)
        learned, kept = self.study.share_right(self.half_known), self.study.share_right(self.known)
        weight = len(self.known) / (len(self.known) + len(self.half_known))
        return weight * kept + (1 - weight) * learned, learned, kept

    def run(self, attack: str, settings: MergeSettings, rounds: int, seed: int) -> dict[str, float]:
        """The figures after some rounds under one attack and one aggregation."""
        peers = [Peer(number, self.facts, attack, seed) for number in range(PEERS)]
        current = self.learner.shared_models.initial
        for number in range(rounds):
            parent = Parent(current, digest_of(current))
            contributions = []
            for i, peer in enumerate(peers):
                name = (peer.name, peer.attack, parent.digest)
                if name not in self._done:
                    self._done[name] = peer.update(self.learner, current, seed + 100 * number + i)
                state = self._done[name]
                wins = len(peer.wins) if peer.attack == "none" else CLAIMED_WINS
                contributions.append(Contribution(peer.name, state, wins, parent.digest))
            current = aggregate(contributions, settings, parent).state
        overall, learned, kept = self.overall(current)
        return {
            "overall_gain": 100 * (overall - self.frozen[0]),
            "learned_paraphrase": learned,
            "retention_drop": 100 * (self.frozen[2] - kept),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.add_argument("--facts", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--retention", type=int, default=100, help="retention questions asked")
    parser.add_argument("--attacks", nargs="+", default=list(ATTACKS), choices=ATTACKS)
    parser.add_argument("--only", nargs="+", default=list(AGGREGATIONS), choices=list(AGGREGATIONS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads or 1)
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        app = open_peer(arguments.model, Path(folder), arguments.seed)
        rng = random.Random(arguments.seed)
        facts = rng.sample([f for f in load_world().facts if f.half_known], arguments.facts)
        study = Study(app, arguments.seed, 0.0)
        with app.learning.between_rounds():
            learner = app.learning.learner(arguments.seed, ())
        fleet = Fleet(study, learner, facts, arguments.retention)
        for attack in arguments.attacks:
            for name in arguments.only:
                found.setdefault(name, {})[attack] = fleet.run(
                    attack, AGGREGATIONS[name], arguments.rounds, arguments.seed
                )
                print(attack, name, found[name][attack], file=sys.stderr, flush=True)
        app.close()
    if arguments.json:
        print(json.dumps(found))
        return
    print_table(
        ["aggregation", *(f"{attack}: {figure}" for attack in arguments.attacks for figure in ("gain", "drop"))],
        [
            [
                name,
                *(
                    f"{of[attack][figure]:.1f}"
                    for attack in arguments.attacks
                    for figure in ("overall_gain", "retention_drop")
                ),
            ]
            for name, of in found.items()
        ],
    )


if __name__ == "__main__":
    main()
