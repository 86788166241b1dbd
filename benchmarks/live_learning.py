"""A stream of live corrections by the simulated user, through the services: does the model learn, and forget nothing?

`python -m benchmarks.live_learning --json [--interactions 60] [--seed 7] [--preset live] [--set lambda_lose=0.1]`
The figures are defined in docs/METRICS.md. The user is simulated; model, training, gate and store are the real ones.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.asking import answers
from benchmarks.real_figures import percentile
from benchmarks.studies import changed_keys, print_figures, save_checkpoint, study_parser, study_settings
from pocket.evaluation import Conversation, ask, retention_questions
from pocket.outside import HELD_OUT as OUTSIDE
from pocket.simulated_user import SimulatedUser
from pocket.tasks import Task, open_task
from pocket.wordings import OPEN, split
from pocket.world import Fact, load_world
from services.app import AppServices, open_services

CHECKPOINT_EVERY = 25  # interactions
MEETINGS = 3  # each fact is met this often, in different wordings


@dataclass
class Tally:
    """What happened, in order of the interactions; plain values, so that a checkpoint is one JSON file."""

    first_right: list[bool] = field(default_factory=list)
    needed_revision: list[bool] = field(default_factory=list)
    hinted: int = 0
    revised_right: int = 0
    corrected: list[str] = field(default_factory=list)  # fact keys
    same: list[bool] = field(default_factory=list)
    paraphrase: list[float] = field(default_factory=list)
    end_to_end: list[float] = field(default_factory=list)
    seconds_to_live: list[float] = field(default_factory=list)
    round_seconds: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    rounds: int = 0
    refused: int = 0
    retention: list[tuple[int, float]] = field(default_factory=list)  # (interaction, share right), at checkpoints


def stream(interactions: int, rng: random.Random) -> list[tuple[Fact, str]]:
    """Half-known facts with their wordings, each met MEETINGS times, shuffled."""
    world = load_world()
    facts = rng.sample([f for f in world.facts if f.half_known], -(-interactions // MEETINGS))
    met = [(f, wording) for f in facts for wording in rng.sample(split(OPEN[f.relation], held_out=False), MEETINGS)]
    rng.shuffle(met)
    return met[:interactions]


class Study:
    def __init__(self, app: AppServices, seed: int, noise: float) -> None:
        self.app = app
        self.world = load_world()
        self.user = SimulatedUser(seed, noise)
        self.tally = Tally()
        self.retention = retention_questions()

    def answers(self, conversations: Sequence[Conversation], *, frozen: bool = False) -> list[str]:
        """Greedy answers of what serves now, or of the untouched model; outside the conversations of the stream."""
        return answers(self.app, conversations, frozen=frozen)

    def share_right(self, tasks: Sequence[Task], *, frozen: bool = False) -> float:
        replies = self.answers([ask(t.question) for t in tasks], frozen=frozen)
        return sum(t.verdict(r) for t, r in zip(tasks, replies, strict=True)) / len(tasks)

    def held_out(self, fact: Fact) -> list[Task]:
        return [open_task(self.world, fact, wording) for wording in split(OPEN[fact.relation], held_out=True)]

    def meet(self, number: int, fact: Fact, wording: str) -> None:
        """One interaction: ask; where wrong, hint and judge revisions; where confirmed, let it be learned and ask again."""
        task, tally = open_task(self.world, fact, wording), self.tally
        chat, feedback = self.app.chat, self.app.feedback
        self.user.begin(number)
        torch.manual_seed(self.user.seed * 1_000_003 + number)  # revisions after the first are sampled
        conversation = chat.new_conversation()
        reply = list(chat.reply(conversation.id, task.question))[-1]
        tally.first_right.append(task.verdict(reply.text))
        content = self.user.finds_right(task, reply.text)
        tally.needed_revision.append(not content)
        if content:
            return
        correction = self.user.correct(task)
        tally.hinted += 1
        said, confirmed = reply, False
        for _ in range(self.app.engine.config.num_revisions):
            said = list(chat.revise(said.id, correction.hint(said.text)))[-1]
            if self.user.finds_right(task, said.text):
                confirmed = True
                break
            feedback.still_wrong(said.id)
        tally.revised_right += task.verdict(said.text)
        if not confirmed:
            tally.end_to_end.append(self.share_right(self.held_out(fact)))
            return
        started = time.monotonic()
        feedback.better(said.id)
        self._learn()
        next(iter(chat.reply(chat.new_conversation(learn=False).id, task.question)))
        tally.seconds_to_live.append(time.monotonic() - started)
        tally.corrected.append(fact.key)
        tally.same.append(self.share_right([task]) == 1.0)
        tally.paraphrase.append(self.share_right(self.held_out(fact)))
        tally.end_to_end.append(tally.paraphrase[-1])

    def _learn(self) -> None:
        engine = self.app.engine
        last = engine.store.last_round(engine.base)
        before = last.id if last else 0
        self.app.learning.run_pending()
        for r in engine.store.rounds(engine.base, limit=10):
            if r.id > before and r.status in ("promoted", "discarded"):
                self.tally.rounds += 1
                self.tally.refused += r.status == "discarded"
                self.tally.steps.append(r.figures.steps or 0)
                self.tally.round_seconds.append(r.figures.round_seconds or 0.0)

    def report(self, interactions: int) -> None:
        """One line to stderr, and how much is retained at this point."""
        t = self.tally
        t.retention.append((len(t.first_right), self.share_right(self.retention)))
        learned = f"same {_mean(t.same):.2f}, paraphrase {_mean(t.paraphrase):.2f}, retention {t.retention[-1][1]:.3f}"
        done = f"{len(t.first_right)}/{interactions}: {len(t.corrected)} corrections, {learned}"
        print(f"{done}, median {statistics.median(t.seconds_to_live or [0]):.1f} s", file=sys.stderr, flush=True)

    def figures(self, met: Sequence[tuple[Fact, str]]) -> dict[str, Any]:
        t = self.tally
        third = max(1, len(t.first_right) // 3)
        asked = [open_task(self.world, f, w) for f, w in met]
        replies = self.answers([ask(task.question) for task in asked], frozen=True)
        frozen_right = [task.verdict(r) for task, r in zip(asked, replies, strict=True)]
        retention = self.retention
        facts = list({f.key: f for f, _ in met}.values())
        half_known = [task for f in facts for task in self.held_out(f)]
        kept, kept_frozen = self.share_right(retention), self.share_right(retention, frozen=True)
        learned, learned_frozen = self.share_right(half_known), self.share_right(half_known, frozen=True)
        weight = len(retention) / (len(retention) + len(half_known))
        early = t.corrected[: max(1, len(t.corrected) // 3)]
        lasting = (
            self.share_right([task for key in early for task in self.held_out(self.world.fact(key))]) if early else 0.0
        )
        overall = weight * kept + (1 - weight) * learned
        overall_frozen = weight * kept_frozen + (1 - weight) * learned_frozen
        outside = [ask(prompt) for prompt in OUTSIDE]
        said, said_before = self.answers(outside), self.answers(outside, frozen=True)
        seconds = sorted(t.seconds_to_live) or [0.0]
        return {
            "interactions": len(t.first_right),
            "corrections": len(t.corrected),
            "revision_success": _share(t.revised_right, t.hinted),
            "learned_same": _mean(t.same),
            "learned_paraphrase": _mean(t.paraphrase),
            "end_to_end": _mean(t.end_to_end),
            "lasting": lasting,
            "retention": kept,
            "retention_drop": 100 * (kept_frozen - kept),
            "first_try_gain": 100 * (_mean(t.first_right[-third:]) - _mean(frozen_right[-third:])),
            "overall_gain": 100 * (overall - overall_frozen),
            "outside_changed": _mean([now != was for now, was in zip(said, said_before, strict=True)]),
            "half_known_after": learned,
            "half_known_frozen": learned_frozen,
            "seconds_to_live_p50": statistics.median(seconds),
            "seconds_to_live_p95": percentile(seconds, 0.95),
            "rounds_refused": _share(t.refused, t.rounds),
            "revised": sum(t.needed_revision),
            "round_seconds_p50": statistics.median(t.round_seconds) if t.round_seconds else 0.0,
            "steps_median": statistics.median(t.steps) if t.steps else 0,
            "retention_questions": len(retention),
            "frozen_right": frozen_right,
        }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole stream; with --out it is checkpointed every CHECKPOINT_EVERY interactions and goes on from there."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    changes = changed_keys(arguments)
    asked = {"seed": arguments.seed, "preset": arguments.preset, "noise": arguments.noise, "changes": changes}
    with contextlib.ExitStack() as stack:
        out = Path(arguments.out or stack.enter_context(tempfile.TemporaryDirectory()))
        checkpoint, data = out / "checkpoint", out / "data"
        tally = Tally()
        shutil.rmtree(data, ignore_errors=True)
        if (checkpoint / "tally.json").exists():
            saved = json.loads((checkpoint / "tally.json").read_text())
            if saved.pop("asked") != {**asked, "interactions": arguments.interactions}:
                raise SystemExit(f"{out} holds a study with other settings; name another folder with --out")
            tally = Tally(**saved)
            shutil.copytree(checkpoint / "data", data)
        settings = study_settings(arguments, data)
        met = stream(arguments.interactions, random.Random(arguments.seed))
        app = open_services(settings, start_jobs=False)
        study = Study(app, arguments.seed, arguments.noise)
        study.tally = tally
        try:
            app.learning.prepare()
            for number in range(len(tally.first_right), len(met)):
                study.meet(number, *met[number])
                if (number + 1) % CHECKPOINT_EVERY == 0 or number + 1 == len(met):
                    study.report(len(met))
                    if arguments.out:
                        app.close()
                        save_checkpoint(
                            checkpoint,
                            data,
                            "tally.json",
                            {**dataclasses.asdict(tally), "asked": {**asked, "interactions": len(met)}},
                        )
                        app = study.app = open_services(settings, start_jobs=False)
                        app.learning.prepare()
            figures = {**study.figures(met), **asked}
        finally:
            app.close()
        if arguments.out:
            (out / "figures.json").write_text(json.dumps({**figures, "tally": dataclasses.asdict(tally)}))
        return figures


def main() -> None:
    parser = study_parser(__doc__)
    parser.add_argument("--interactions", type=int, default=60)
    parser.add_argument(
        "--noise", type=float, default=0.0, help="share of the simulated user's verdicts that is flipped"
    )
    arguments = parser.parse_args()
    figures = run(arguments)
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
