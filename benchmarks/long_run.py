"""Two thousand corrections in a row, on the real services: do memory, disk and the time of a round stay flat?

`python -m benchmarks.long_run --corrections 2000 --seed 1 --json [--out folder]`
With --out every correction becomes a line of `folder/progress.jsonl`, and the run goes on where it was stopped.

The pocket world has 190 half-known facts, so the simulated user changes their mind. Each fact keeps one wording; the first
time the user wants the truth, every later time another answer of its relation, and so contradicts what was learned. A
wrong reply gets two hints at most; where no revision is right, the user edits the reply. A reply that happens to be right
is no correction and is passed over. Every EVALUATED_EVERY corrections all facts taught so far are asked, in their own
wording and in three that are never trained on, and the retention questions of docs/METRICS.md. Nothing else runs: no
scheduler, no self-play. Seconds are of the clock; CPU seconds are this process's own, and do not grow when others use
the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.asking import answers
from benchmarks.plots import draw_long_run
from benchmarks.report import add_common_flags, print_table
from pocket.evaluation import ask, retention_questions
from pocket.simulated_user import SimulatedUser
from pocket.tasks import Task, open_task
from pocket.wordings import OPEN, open_answer, split
from pocket.world import Fact, load_world
from services.app import DATABASE, AppServices, keep_what_is_loaded, open_services
from services.settings import Settings

EVALUATED_EVERY = 50  # corrections
PROGRESS = "progress.jsonl"
MIB = 2**20


@dataclass(frozen=True)
class Wish:
    """What the user wants to hear about a fact by now, and how they ask for it."""

    fact: Fact
    wording: str
    answer: str

    def task(self, wording: str = "") -> Task:
        """The question in the wish's own or another wording, with the wanted answer in the place of the truth."""
        task = open_task(load_world(), self.fact, wording or self.wording)
        return replace(task, truth=self.answer, answer=open_answer(self.fact, self.answer))

    def held_out(self) -> list[Task]:
        return [self.task(wording) for wording in split(OPEN[self.fact.relation], held_out=True)]


def wishes(seed: int) -> Iterator[Wish]:
    """All half-known facts in a shuffled order, again and again: first the truth, then always another answer than before."""
    world, rng = load_world(), random.Random(seed)
    facts = [f for f in world.facts if f.half_known]
    wordings = {f.key: rng.choice(split(OPEN[f.relation], held_out=False)) for f in facts}
    wanted = {f.key: f.truth for f in facts}
    while True:
        rng.shuffle(facts)
        for fact in facts:
            yield Wish(fact, wordings[fact.key], wanted[fact.key])
            others = [c for c in world.candidates[fact.relation] if c != wanted[fact.key]]
            wanted[fact.key] = rng.choice(others)


class LongRun:
    """Corrections one after the other; `lines` is what came of each, and is all that a resumed run needs."""

    def __init__(
        self, app: AppServices, seed: int, lines: list[dict[str, Any]], write: Callable[[str], object]
    ) -> None:
        self.app = app
        self.lines = lines
        self.taught: dict[str, Wish] = {}
        self._write = write
        self._user = SimulatedUser(seed)
        self._seed = seed
        self._retention = retention_questions()
        self._process = psutil.Process()
        self._part = 1 + max((line["part"] for line in lines), default=0)  # a resumed run begins with fresh memory

    def go(self, corrections: int) -> None:
        done = sum(line["corrected"] for line in self.lines)
        if not self.lines:
            self._note({"corrected": False, **self._accuracy()})
        for number, wish in enumerate(wishes(self._seed), start=1):
            if done >= corrections:
                break
            if number < len(self.lines):  # the first line is the model as it came
                if self.lines[number]["corrected"]:
                    self.taught[wish.fact.key] = wish
                continue
            line = self._meet(number, wish)
            done += line["corrected"]
            if line["corrected"] and (done % EVALUATED_EVERY == 0 or done == corrections):
                line |= self._accuracy()
            self._note(line)

    def _meet(self, number: int, wish: Wish) -> dict[str, Any]:
        """One question; where its answer is not the wanted one, the correction and the round that learns it."""
        task, chat, feedback = wish.task(), self.app.chat, self.app.feedback
        self._user.begin(number)
        torch.manual_seed(self._seed * 1_000_003 + number)  # revisions after the first are sampled
        reply = list(chat.reply(chat.new_conversation().id, task.question))[-1]
        line: dict[str, Any] = {"fact": wish.fact.key, "wanted": wish.answer, "corrected": False}
        if task.verdict(reply.text):
            return line
        correction, said = self._user.correct(task), reply
        for _ in range(self.app.engine.config.num_revisions):
            said = list(chat.revise(said.id, correction.hint(said.text)))[-1]
            if task.verdict(said.text):
                break
            feedback.still_wrong(said.id)
        began, worked = time.monotonic(), time.process_time()
        if task.verdict(said.text):
            feedback.better(said.id)
        else:
            feedback.edit(reply.id, task.answer)
        self.app.learning.run_pending()
        seconds, cpu_seconds = time.monotonic() - began, time.process_time() - worked
        self.taught[wish.fact.key] = wish
        engine = self.app.engine
        last = engine.store.last_round(engine.base)
        assert last is not None and last.status in ("promoted", "discarded")
        return {
            **line,
            "corrected": True,
            "by": "revision" if task.verdict(said.text) else "edit",
            "promoted": last.status == "promoted",
            "learned": last.proof is not None and task.verdict(last.proof.after),
            "steps": last.figures.steps,
            "seconds": round(seconds, 3),
            "cpu_seconds": round(cpu_seconds, 3),
            **self._machine(),
        }

    def _machine(self) -> dict[str, Any]:
        engine = self.app.engine
        files = [file for file in engine.data_folder.rglob("*") if file.is_file()]
        versions = [a for a in engine.store.adapters(engine.base) if a.status != "pruned"]
        return {
            "rss_mib": round(self._process.memory_info().rss / MIB, 2),
            "disk_mib": round(sum(file.stat().st_size for file in files) / MIB, 2),
            "database_mib": round(sum(f.stat().st_size for f in files if f.name.startswith(DATABASE)) / MIB, 2),
            "versions_kept": len(versions),
            "versions_made": engine.store.next_version(engine.base) - 1,
        }

    def _accuracy(self) -> dict[str, float]:
        wanted = list(self.taught.values())
        asked = {
            "own": [wish.task() for wish in wanted],
            "paraphrase": [task for wish in wanted for task in wish.held_out()],
            "retention": self._retention,
        }
        return {name: round(self._share_right(tasks), 4) for name, tasks in asked.items() if tasks}

    def _share_right(self, tasks: Sequence[Task]) -> float:
        replies = answers(self.app, [ask(task.question) for task in tasks])
        return sum(task.verdict(reply) for task, reply in zip(tasks, replies, strict=True)) / len(tasks)

    def _note(self, line: dict[str, Any]) -> None:
        line["part"] = self._part
        self.lines.append(line)
        self._write(json.dumps(line) + "\n")


def trend(values: Sequence[float]) -> dict[str, float]:
    """Medians of the first and the last quarter, the growth between them in per cent, and the slope a thousand."""
    quarter = max(1, len(values) // 4)
    first, last = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
    slope = statistics.linear_regression(range(len(values)), values).slope if len(values) > 1 else 0.0
    return {
        "first_quarter": round(first, 3),
        "last_quarter": round(last, 3),
        "growth_percent": round(100 * (last / first - 1), 2) if first else 0.0,
        "slope_a_thousand": round(1000 * slope, 3),
    }


def curve(lines: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Accuracy by the number of corrections; the first point is the model as it came."""
    points: list[dict[str, float]] = []
    done = 0
    for line in lines:
        done += line["corrected"]
        if "retention" in line:
            points.append(
                {"corrections": done, **{k: line[k] for k in ("own", "paraphrase", "retention") if k in line}}
            )
    return points


def figures(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Memory is of one process: where the run was resumed, the part with the most corrections is looked at."""
    done = [line for line in lines if line["corrected"]]
    parts = [[line for line in done if line["part"] == part] for part in sorted({line["part"] for line in done})]
    longest = max(parts, key=len)
    return {
        "corrections": len(done),
        "already_right": sum(not line["corrected"] for line in lines) - 1,
        "by_revision": sum(line["by"] == "revision" for line in done) / len(done),
        "promoted": sum(line["promoted"] for line in done) / len(done),
        "learned": sum(line["learned"] for line in done) / len(done),
        "parts": [len(part) for part in parts],
        "rss_mib": trend([line["rss_mib"] for line in longest]),
        "disk_mib": trend([line["disk_mib"] for line in done]),
        "database_mib": trend([line["database_mib"] for line in done]),
        "round_seconds": trend([line["seconds"] for line in done]),
        "cpu_seconds_a_step": trend([line["cpu_seconds"] / max(1, line["steps"]) for line in done]),
        "round_cpu_seconds": trend([line["cpu_seconds"] for line in done]),
        "steps": trend([line["steps"] for line in done]),
        "versions_made": done[-1]["versions_made"],
        "versions_kept": done[-1]["versions_kept"],
        "versions_pruned": done[-1]["versions_made"] - done[-1]["versions_kept"],
        "accuracy": curve(lines),
    }


def _read(file: Path) -> list[dict[str, Any]]:
    """The lines that are whole: a kill may leave half of the last one, which is cut off."""
    whole = (
        [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")] if file.exists() else []
    )
    file.write_text("".join(whole))
    return [json.loads(line) for line in whole]


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole run, or what is left of it. The data folder itself is what a stopped run goes on with."""
    with contextlib.ExitStack() as stack:
        out = Path(arguments.out or stack.enter_context(tempfile.TemporaryDirectory()))
        out.mkdir(parents=True, exist_ok=True)
        lines = _read(out / PROGRESS)
        settings = Settings(
            model=arguments.model, data_folder=out / "data", threads=arguments.threads, seed=arguments.seed
        )
        app = open_services(settings, start_jobs=False)
        try:
            app.learning.prepare()
            app.learning.run_pending()  # what a killed run had said and not learned
            keep_what_is_loaded()
            with (out / PROGRESS).open("a", buffering=1) as progress:
                LongRun(app, arguments.seed, lines, progress.write).go(arguments.corrections)
        finally:
            app.close()
        found = {**figures(lines), "seed": arguments.seed}
        if arguments.out:
            (out / "figures.json").write_text(json.dumps(found))
            draw_long_run(found["accuracy"], out / "long_run.svg")
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.add_argument("--corrections", type=int, default=2000)
    parser.add_argument("--out", default="", metavar="FOLDER", help="keep everything here, and resume from it")
    parser.add_argument("--report", action="store_true", help="only read what is in --out so far, and draw it")
    arguments = parser.parse_args()
    if arguments.report:
        lines = _read(Path(arguments.out) / PROGRESS)
        found = figures(lines)
        draw_long_run(found["accuracy"], Path(arguments.out) / "long_run.svg")
    else:
        found = run(arguments)
    if arguments.json:
        print(json.dumps(found))
    else:
        print_table(
            ["figure", "value"], [[k, f"{v:.3f}" if isinstance(v, float) else str(v)] for k, v in found.items()]
        )


if __name__ == "__main__":
    main()
