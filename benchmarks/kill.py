"""SIGKILL at seeded random instants of everything the app does: `python -m benchmarks.kill [--kills 200] [--seed 1]`.

A process over the real services and the pocket model votes, revises, trains, merges, backs up and migrates (kill_app.py).
It is killed in each phase in turn, at a random instant of the phase, and started again on the same folder; the start
checks that everything acknowledged is there once and that the app works (kill_check.py). Every EACH kills begin with an
empty folder. With --real-model a round of a general language model is one more phase, on a data folder of its own that is
checked after each of its kills. With --out the folders and results stay there, and a run that was cut off goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.kill_app import PHASES, REAL_ROUND, Places, live, prepare
from benchmarks.report import print_table
from services.models.built_in import model_folder

EACH = 50
LONGEST_WAIT_SECONDS = 240.0  # for a start, or for a phase to begin
PRELOADED = [
    "services.app",
    "benchmarks.kill_app",
    "transformers.models.llama.modeling_llama",
    "peft.tuners.lora",
]
QUIET = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore::FutureWarning,ignore::UserWarning"}
# seconds, until the first ones are measured
TYPICAL = {"start": 2.0, "training": 1.0, "merge": 4.0, "gate": 1.0, "revision": 0.3, "vote": 0.1, "migration": 0.3}
TYPICAL[REAL_ROUND] = 20.0


@dataclass
class Kill:
    """One kill. `reached`: the phase had begun; `within`: it had not ended. The others came just after its end."""

    number: int
    phase: str
    reached: bool
    within: bool
    after_seconds: float
    acknowledged: int  # acts of this life
    complaints: list[str] | None = None  # of the start after it; None until then


@dataclass
class Story:
    """All kills of a run so far, kept in `folder` if the run is to be resumable."""

    folder: Path
    kills: list[Kill] = field(default_factory=list)
    spans: dict[str, list[float]] = field(default_factory=dict)  # phase -> seconds, as measured

    @property
    def file(self) -> Path:
        return self.folder / "kills.json"

    @classmethod
    def opened(cls, folder: Path) -> Story:
        story = cls(folder)
        if story.file.is_file():
            kept = json.loads(story.file.read_text())
            story.kills, story.spans = [Kill(**k) for k in kept["kills"]], kept["spans"]
        return story

    def save(self) -> None:
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps({"kills": [asdict(k) for k in self.kills], "spans": self.spans}))
        part.replace(self.file)

    def span(self, phase: str) -> float:
        return median(self.spans[phase][-9:]) if self.spans.get(phase) else TYPICAL.get(phase, 0.05)

    def measured(self, phase: str, seconds: float) -> None:
        self.spans.setdefault(phase, []).append(round(seconds, 4))

    def checked(self, complaints: list[str], real: bool = False) -> None:
        """What a start found is said of every kill since the last one on the same kind of model."""
        for kill in self.kills:
            if kill.complaints is None and (kill.phase == REAL_ROUND) == real:
                kill.complaints = complaints

    def figures(self) -> dict[str, Any]:
        done = [k for k in self.kills if k.complaints is not None]
        return {
            "kills": len(done),
            "whole": sum(not k.complaints for k in done),
            "by_phase": dict(Counter(k.phase for k in done if k.reached)),
            "within_phase": dict(Counter(k.phase for k in done if k.reached and k.within)),
            "acknowledged": sum(k.acknowledged for k in done),
            "complaints": {k.number: k.complaints for k in done if k.complaints},
        }


class Life:
    """One process, from its start to its end."""

    def __init__(self, context: Any, places: Places, phase: str, seed: int) -> None:
        self.pipe, theirs = context.Pipe(duplex=False)
        self.places = places
        self.acknowledged = 0
        self.started = time.monotonic()
        self.process = context.Process(target=live, args=(places, phase, seed, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def said(self, until: float) -> Iterator[dict[str, Any]]:
        """What it says until that time of the monotonic clock; the ledger is written on the way. Ends with the process."""
        while (left := until - time.monotonic()) > 0 and self.pipe.poll(left):
            try:
                message = self.pipe.recv()
            except (EOFError, OSError):  # it is gone, perhaps in the middle of a word
                return
            if "do" in message:
                self.acknowledged += message["do"] == "ack"
                with self.places.ledger.open("a") as ledger:
                    ledger.write(json.dumps(message) + "\n")
            else:
                yield message

    def kill(self, phase: str) -> bool:
        """Whether it said, before it was killed, that the phase had ended."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        last_words = list(self.said(time.monotonic() + 5))
        self.pipe.close()
        return any(said.get("phase") == phase and not said["begins"] for said in last_words)


def run(
    kills: int,
    seed: int,
    folder: Path,
    phases: Sequence[str] = PHASES,
    *,
    progress: bool = False,
    real_model: str = "",
) -> dict[str, Any]:
    """Carry a run on to `kills` kills. Returns `Story.figures`.

    `real_model` is the folder of a general language model or a built-in name; REAL_ROUND is then one more phase.
    """
    if real_model:
        phases = tuple(dict.fromkeys([*phases, REAL_ROUND]))
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= QUIET
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    material = folder / "material"
    if not (ready := material / "ready").is_file():
        real = model_folder(real_model, folder) if real_model else ""
        making = context.Process(target=prepare, args=(material, real))
        making.start()
        making.join()
        if making.exitcode:
            raise SystemExit("the material for merges and migrations could not be made")
        ready.touch()
    story = Story.opened(folder)
    while len(story.kills) < kills:
        number = len(story.kills)
        phase = _phase_of(number, seed, phases)
        places = _places(folder, number // EACH, real=phase == REAL_ROUND)
        kill_once(context, story, places, phase, random.Random(f"{seed}:{number}"))
        if places.real:
            finish(context, story, places)
            places = _places(folder, number // EACH)
        if len(story.kills) % EACH == 0 or len(story.kills) == kills:
            finish(context, story, places)
        story.save()
        if progress:
            print(f"{len(story.kills)} kills, {story.figures()}", file=sys.stderr, flush=True)
    return story.figures()


def _places(folder: Path, instance: int, *, real: bool = False) -> Places:
    name = f"real-{instance}" if real else str(instance)
    return Places(folder / f"data-{name}", folder / f"ledger-{name}.jsonl", folder / "material", real)


def _phase_of(number: int, seed: int, phases: Sequence[str]) -> str:
    """Each phase once in every len(phases) kills, in an order drawn again each time."""
    turn, place = divmod(number, len(phases))
    return random.Random(f"{seed}:{turn}").sample(list(phases), len(phases))[place]


def kill_once(context: Any, story: Story, places: Places, phase: str, rng: random.Random) -> None:
    """One life: start, check, work, and its end at a random instant of `phase`."""
    life = Life(context, places, phase, rng.randrange(2**31))
    share, passes = rng.uniform(0.0, 1.1), rng.randrange(2) if phase == "gate" else 0
    checked: list[str] | None = None
    open_since: dict[str, float] = {}
    begun, ended = (life.started, False) if phase == "start" else (None, False)
    until = life.started + (share * story.span("start") if begun else LONGEST_WAIT_SECONDS)
    while begun is None or phase == "start":
        said = next(life.said(until), None)
        if said is None:
            break
        if "checked" in said:
            checked, ended = said["checked"], phase == "start"
            if not places.real:
                story.measured("start", time.monotonic() - life.started)
        elif said["begins"]:
            open_since[said["phase"]] = time.monotonic()
            if said["phase"] == phase and (passes := passes - 1) < 0:
                begun = time.monotonic()
        elif said["phase"] in open_since:
            story.measured(said["phase"], time.monotonic() - open_since.pop(said["phase"]))
    if begun is not None and phase != "start":
        until = begun + share * story.span(phase)
        for said in life.said(until):
            if said.get("phase") == phase and not said["begins"] and not ended:
                ended = True
                story.measured(phase, time.monotonic() - begun)
        time.sleep(max(0.0, until - time.monotonic()))
    if not life.process.is_alive():
        checked = [*(checked or []), f"the app ended by itself, with {life.process.exitcode}"]
    after = time.monotonic() - (begun or life.started)
    ended = life.kill(phase) or ended
    if checked is not None:
        story.checked(checked, places.real)
    story.kills.append(Kill(len(story.kills), phase, begun is not None, not ended, round(after, 4), life.acknowledged))


def finish(context: Any, story: Story, places: Places) -> None:
    """The last start on a folder: check, learn what waits, and end in good order."""
    life = Life(context, places, "", 0)
    complaints: list[str] = ["the app did not start"]
    finished: list[str] = ["the app did not finish what waited"]
    for said in life.said(time.monotonic() + LONGEST_WAIT_SECONDS):
        complaints, finished = said.get("checked", complaints), said.get("finished", finished)
    life.process.join(30)
    with contextlib.suppress(OSError):
        life.pipe.close()
    story.checked([*complaints, *finished], places.real)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--real-model", default="", metavar="NAME", help="kill rounds of this model too, such as smollm2"
    )
    parser.add_argument("--out", type=Path, help="keep data and results here, and go on with what is there")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    asked = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        figures = run(asked.kills, asked.seed, asked.out or Path(scratch), progress=True, real_model=asked.real_model)
    figures["minutes"] = round((time.monotonic() - started) / 60, 1)
    if asked.json:
        print(json.dumps(figures))
    else:
        within = figures["within_phase"]
        rows = [[phase, str(n), str(within.get(phase, 0))] for phase, n in figures["by_phase"].items()]
        print_table(["phase", "kills", "before its end"], rows)
        print(f"{figures['whole']} of {figures['kills']} whole")
    sys.exit(figures["whole"] != figures["kills"])


if __name__ == "__main__":
    main()
