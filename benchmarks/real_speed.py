"""How fast the app is on a real model: `python -m benchmarks.real_speed --model FOLDER [--json]`.

Two builds of the app, an earlier revision (`git worktree`) and this one, are processes of their own that take turns:
same machine, model, threads, questions; an adapter serves in both. llama.cpp, with weights of the same precision, takes
its turn among them. All figures are medians over `--repeats`; ratios are of medians of one run.

`decode_ratio`: tokens a second of one reply after its first token, new over old. `llama_cpp_ratio`: new over llama.cpp;
null where it cannot be installed, and `llama_cpp_reason` says why. `to_live_ratio`: seconds from
the confirmation of a correction to the first reply by the new adapter, gate included, medians of new over old, of the
corrections that both were given. A correction that is refused counts with the seconds until then.
`eight_at_once_ratio`: tokens a second in all of
eight replies asked for at once, over one reply alone. `next_turn_ratio`: first token of the next turn of a conversation
of 1,000 tokens, over that of a new one of 50. `training_*`: one reply while corrections are being learned;
`process_*`: the same while another process learns them, which knows nothing of the chat (`--learner-process`).
`private_over_weights_bytes`: private memory after chat and rounds, less the weights and what the libraries took before a
model was loaded; `with_libraries_bytes` counts those too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import llama_cpp
from benchmarks.chat_while_training import p95
from benchmarks.real_figures import mean
from benchmarks.real_speed_build import LONG
from benchmarks.report import print_table

ROOT = Path(__file__).resolve().parent.parent
OLD_REVISION = "f0ce84f"
LEARNER_NICE = 19
OWN_FILES = ("spear.json", "starter.json")
BARS = {
    "to_live_ratio": 0.1,
    "seconds_to_live_p50": 10.0,
    "seconds_to_live_p95": 20.0,
    "decode_ratio": 2.2,
    "llama_cpp_ratio": 0.8,
    "eight_at_once_ratio": 3.0,
    "next_turn_ratio": 1.3,
    "training_tokens_per_second_ratio": 0.7,
    "training_first_token_ratio_p95": 1.5,
    "private_over_weights_bytes": 400_000_000,
}
Figures = dict[str, Any]


class Process:
    """A process that answers each line of JSON with one."""

    def __init__(self, command: Sequence[str], cwd: Path) -> None:
        self._process = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._read()

    def ask(self, **what: Any) -> Figures:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Figures:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise SystemExit(f"{' '.join(map(str, self._process.args))[:200]} ended")  # type: ignore[arg-type]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def running(command: Sequence[str], cwd: Path = ROOT) -> Iterator[Process]:
    process = Process(command, cwd)
    try:
        yield process
    finally:
        process.close()


@contextmanager
def worktree(revision: str) -> Iterator[Path]:
    """Another revision of this repository in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(tree), revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


@contextmanager
def plain_model(folder: Path) -> Iterator[Path]:
    """The model without what this project adds to it: an earlier revision cannot read today's files."""
    with tempfile.TemporaryDirectory() as name:
        plain = Path(name) / folder.name
        plain.mkdir()
        for file in folder.iterdir():
            if file.name not in OWN_FILES:
                (plain / file.name).symlink_to(file.resolve())
        yield plain


def build(arguments: argparse.Namespace, tree: Path, model: Path, threads: int = 0, nice: int = 0) -> Any:
    """`threads`: of torch, 0 for those of the arguments; `nice`: how much lower its priority is."""
    given = {"model": str(model), "threads": threads or arguments.threads, "seed": arguments.seed, "nice": nice}
    script = Path(__file__).with_name("real_speed_build.py")
    return running([sys.executable, str(script), json.dumps(given)], tree)


def median(figures: Sequence[Figures], key: str) -> float:
    return statistics.median(f[key] for f in figures)


def taking_turns(repeats: int, sides: dict[str, Callable[[], Figures]]) -> dict[str, list[Figures]]:
    """Every side once, unmeasured, then all of them `repeats` times in turn."""
    made: dict[str, list[Figures]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, side in sides.items():
            figures = side()
            if repeat:
                made[name].append(figures)
    return made


def decoding(new: Process, old: Process | None, llama: Process | None, arguments: argparse.Namespace) -> Figures:
    """One reply of each side, and eight at once of the new one."""
    tokens = arguments.new_tokens
    sides: dict[str, Callable[[], Figures]] = {"new": lambda: new.ask(do="reply", new_tokens=tokens)}
    if old is not None:
        sides["old"] = lambda: old.ask(do="reply", new_tokens=tokens)
    if llama is not None:
        prompt = f"<|im_start|>user\n{LONG}<|im_end|>\n<|im_start|>assistant\n"
        sides["llama_cpp"] = lambda: llama.ask(**llama_cpp.asked(prompt, tokens))
    sides["eight"] = lambda: new.ask(do="many", count=8, new_tokens=tokens)
    made = taking_turns(arguments.repeats, sides)
    eight = made.pop("eight")
    rates = {name: round(median(figures, "decode_tokens_per_second"), 1) for name, figures in made.items()}
    spread = {name: [round(f["decode_tokens_per_second"], 1) for f in figures] for name, figures in made.items()}
    alone = statistics.median(f["tokens"] / f["seconds"] for f in made["new"])
    in_all = statistics.median(f["tokens"] / f["seconds"] for f in eight)
    return {
        "decode_ratio": round(rates["new"] / rates["old"], 3) if "old" in rates else None,
        "llama_cpp_ratio": round(rates["new"] / rates["llama_cpp"], 3) if "llama_cpp" in rates else None,
        "eight_at_once_ratio": round(in_all / alone, 3),
        "decode_tokens_per_second": rates,
        "decode_cpu_ms_per_token": {
            name: round(median(made[name], "decode_cpu_ms_per_token"), 1) for name in ("new", "old") if name in made
        },
        "decode_tokens_per_second_all": spread,
        "eight_at_once_tokens_per_second": round(in_all, 1),
    }


def first_tokens(new: Process, arguments: argparse.Namespace) -> Figures:
    """A new short conversation and the next turn of a long one, in turn."""
    seconds: dict[str, list[float]] = {"short": [], "long": []}
    long = str(new.ask(do="conversation_id", tokens=1000)["id"])
    short_question = f"Tell me in one short sentence which of these is the oldest. {LONG}"
    for _ in range(3 * arguments.repeats):
        seconds["short"].append(new.ask(do="reply", question=short_question, new_tokens=4)["first_seconds"])
        answer = new.ask(do="reply", question="And what happened then?", new_tokens=4, conversation=long)
        seconds["long"].append(answer["first_seconds"])
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "next_turn_ratio": round(medians["long"] / medians["short"], 3),
        "first_token_ms": {name: round(1000 * value, 1) for name, value in medians.items()},
    }


def beside_training(new: Process, learner: Process | None, arguments: argparse.Namespace) -> Figures:
    """Replies while nothing else runs, while rounds train in the same process, and while they do in one of their own."""
    made: dict[str, list[Figures]] = {"idle": [], "training": [], "process": []}
    rounds, seconds = dict.fromkeys(made, 0), dict.fromkeys(made, 0.0)
    trains: dict[str, Process | None] = {"idle": None, "training": new, "process": learner}
    for _ in range(arguments.repeats):
        for name, trainer in trains.items():
            if name == "process" and learner is None:
                continue
            began = time.monotonic()
            if trainer is not None:
                trainer.ask(do="train", on=True)
            made[name] += [new.ask(do="reply", new_tokens=arguments.new_tokens) for _ in range(3)]
            if trainer is not None:  # ends after the round under way
                rounds[name] += trainer.ask(do="train", on=False)["rounds"]
            seconds[name] += time.monotonic() - began
    made = {name: figures for name, figures in made.items() if figures}
    rate = {name: median(figures, "decode_tokens_per_second") for name, figures in made.items()}
    first = {name: p95([f["first_seconds"] for f in figures]) for name, figures in made.items()}
    figures: Figures = {
        "training_tokens_per_second_ratio": round(rate["training"] / rate["idle"], 3),
        "training_first_token_ratio_p95": round(first["training"] / first["idle"], 3),
        "training_tokens_per_second": {name: round(value, 1) for name, value in rate.items()},
        "training_first_token_ms_p95": {name: round(1000 * value, 1) for name, value in first.items()},
        "training_rounds": rounds["training"],
        "training_rounds_a_minute": {
            name: round(60 * rounds[name] / seconds[name], 2) for name in made if trains[name] is not None
        },
    }
    if learner is not None:
        held = learner.ask(do="memory")
        figures |= {
            "process_tokens_per_second_ratio": round(rate["process"] / rate["idle"], 3),
            "process_first_token_ratio_p95": round(first["process"] / first["idle"], 3),
            "process_private_bytes": held["private_bytes"],
        }
    return figures


def to_live(new: Process, old: Process | None, arguments: argparse.Namespace) -> Figures:
    """The same corrections in both builds, in turn; the earlier one, which is slow, takes the first few of them only."""
    made: dict[str, list[Figures]] = {"new": [], "old": []}
    sides = {"new": (new, arguments.corrections), "old": (old, arguments.old_corrections if old else 0)}
    for process, count in sides.values():
        if process is not None and count:
            process.ask(do="prepare")
    for number in range(arguments.corrections):
        for name, (process, count) in sides.items():
            if process is not None and number < count:
                made[name].append(process.ask(do="correct", number=number))
    seconds = {name: [f["seconds_to_live"] for f in figures] for name, figures in made.items() if figures}
    p50 = {name: statistics.median(values) for name, values in seconds.items()}
    both = len(made["old"])  # the first ones take longest: of the new side only what the old one had too is compared
    return {
        "to_live_ratio": round(statistics.median(seconds["new"][:both]) / p50["old"], 3) if both else None,
        "seconds_to_live_p50": round(p50["new"], 2),
        "seconds_to_live_p95": round(p95(seconds["new"]), 2),
        "seconds_to_live_old_p50": round(p50["old"], 2) if "old" in p50 else None,
        "seconds_to_live_all": {name: [round(value, 1) for value in values] for name, values in seconds.items()},
        "corrections_kept": mean([f["is_kept"] for f in made["new"]]),
        "corrections_kept_old": mean([f["is_kept"] for f in made["old"]]) if both else None,
        "steps_median": statistics.median(f["steps"] or 0 for f in made["new"]),
    }


def memory(new: Process) -> Figures:
    held = new.ask(do="memory")
    over = held["private_bytes"] - held["weight_bytes"]
    return {"private_over_weights_bytes": over - held["library_bytes"], "with_libraries_bytes": over, **held}


def run(arguments: argparse.Namespace) -> Figures:
    figures: Figures = {"threads": arguments.threads, "old_revision": arguments.old, "repeats": arguments.repeats}
    with ExitStack() as running_now:
        enter = running_now.enter_context
        llama, reason = None, "not asked for: give --llama-cpp FOLDER and --gguf FILE"
        if arguments.llama_cpp and arguments.gguf:
            try:
                folder = llama_cpp.installed(Path(arguments.llama_cpp))
                weights = Path(enter(tempfile.TemporaryDirectory())) / "weights.gguf"
                llama_cpp.write_gguf(Path(arguments.gguf), weights, "bf16")
                llama, reason = enter(running(llama_cpp.command(folder, weights, arguments.threads))), ""
            except llama_cpp.Unavailable as e:
                reason = str(e)
        figures["llama_cpp_reason"] = reason
        model = Path(arguments.model)
        plain = enter(plain_model(model))
        old = enter(build(arguments, enter(worktree(arguments.old)), plain)) if arguments.old else None
        new = enter(build(arguments, ROOT, model))
        # each part asks the processes and gives figures; a further one is a further line here
        if arguments.corrections:  # first: beside an adapter for every question a correction has no scope
            figures |= to_live(new, old, arguments)
        for process in filter(None, (new, old) if arguments.repeats else ()):
            process.ask(do="adopt")
        if arguments.repeats:
            figures |= decoding(new, old, llama, arguments)
            figures |= first_tokens(new, arguments)
        if arguments.training and arguments.repeats:
            gently = {"threads": arguments.learner_threads, "nice": LEARNER_NICE}
            learner = enter(build(arguments, ROOT, model, **gently)) if arguments.learner_process else None
            figures |= beside_training(new, learner, arguments)
        figures |= memory(new)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="of replies; 0: corrections only")
    parser.add_argument("--new-tokens", type=int, default=150)
    parser.add_argument("--old", default=OLD_REVISION, help="revision to compare with; empty: none")
    parser.add_argument("--no-training", dest="training", action="store_false", help="leave out chat beside training")
    parser.add_argument(
        "--learner-process", action="store_true", help="chat beside rounds of another process too, for comparison"
    )
    parser.add_argument("--learner-threads", type=int, default=1, help="torch threads of that process")
    parser.add_argument("--corrections", type=int, default=20, help="corrections that go live; 0: none")
    parser.add_argument(
        "--old-corrections", type=int, default=3, help="of them, those that the earlier revision learns"
    )
    parser.add_argument("--llama-cpp", help="folder of node-llama-cpp, installed there where it is empty")
    parser.add_argument("--gguf", help="GGUF file of the same model, for llama.cpp; written again in bf16")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    arguments = parser.parse_args()
    figures = run(arguments)
    if arguments.json:
        print(json.dumps(figures))
    else:
        print_table(["figure", "value", "bar"], [[k, str(v), str(BARS.get(k, ""))] for k, v in figures.items()])


if __name__ == "__main__":
    main()
