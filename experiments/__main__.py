"""`python -m experiments run FILE | sweep DIR | report DIR`: play runs, all runs of a folder, and report on results.

`fleet FILE` plays a file's runs on Flower's simulation, `hardware` one client round of each algorithm on one core.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from pathlib import Path

import torch

from experiments.algorithms import ALGORITHMS
from experiments.hardware import rounds_on_one_core
from experiments.runner import load_named, play_run
from experiments.settings import Run, read_runs
from experiments.tables import print_table
from spear_core.errors import SpearError
from spear_core.models.loading import LoadedModel
from spear_core.training.process_memory import keep_little

log = logging.getLogger("experiments")


def main() -> None:
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    torch.set_num_threads(arguments.threads)
    keep_little()  # a sweep sees every length of prompt that there is
    try:
        if arguments.command == "report":
            from experiments.report import write_report

            write_report(arguments.folder, arguments.to)
        elif arguments.command == "hardware":
            _hardware(arguments)
        elif arguments.command == "fleet":
            _fleet(arguments)
        else:
            files = [arguments.file] if arguments.command == "run" else sorted(arguments.folder.glob("*.toml"))
            _play([run for file in files for run in _runs(file, arguments)], arguments)
    except SpearError as e:
        print(e, file=sys.stderr)
        raise SystemExit(1) from e


def _runs(file: Path, arguments: argparse.Namespace) -> list[Run]:
    folder = str(arguments.data_folder or "")
    return [dataclasses.replace(run, data=dataclasses.replace(run.data, folder=folder)) for run in read_runs(file)]


def _play(runs: list[Run], arguments: argparse.Namespace) -> None:
    """All runs, the first seed of every study before the second of any. One that fails does not stop the others."""
    if arguments.seeds:
        runs = [run for run in runs if run.seed in arguments.seeds]
    order = {seed: i for i, seed in enumerate(dict.fromkeys(run.seed for run in runs))}
    models: dict[str, LoadedModel] = {}
    failed: list[str] = []
    for run in sorted(runs, key=lambda r: order[r.seed]):
        try:
            if run.model not in models:
                models[run.model] = load_named(run.model, arguments.device)
            last = play_run(run, arguments.out, models[run.model], quiet=arguments.quiet)
            log.info("%s: accuracy %.3f", run.folder, last["accuracy"])
        except SpearError as e:
            log.error("%s: %s", run.folder, e)
            failed.append(run.folder)
    if failed:
        raise SpearError(f"{len(failed)} of {len(runs)} runs failed; run the same command again to repeat only these")


def _fleet(arguments: argparse.Namespace) -> None:
    try:
        from experiments.fleet import play_on_flower
    except ImportError as e:
        raise SpearError(
            "a fleet needs Flower: pip install -r requirements-flower.txt, best in its own .venv-flower"
        ) from e
    for run in _runs(arguments.file, arguments):
        last = play_on_flower(run, arguments.out, arguments.nodes)
        print(f"{run.folder}: accuracy {last['accuracy']:.3f}")


def _hardware(arguments: argparse.Namespace) -> None:
    rows = rounds_on_one_core(arguments.file, arguments.megabytes, arguments.algorithms, arguments.data_folder)
    header = list(dict.fromkeys(key for row in rows for key in row))
    print_table(header, [[str(row.get(key, "")) for key in header] for row in rows])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    commands = parser.add_subparsers(dest="command", required=True)
    players = []
    for name, what, words in (
        ("run", "file", "a run file (TOML)"),
        ("sweep", "folder", "a folder of run files"),
    ):
        command = commands.add_parser(name, help=f"play every run of {words}; what is complete is not played again")
        players.append(command)
        command.add_argument(what, type=Path)
        command.add_argument("--out", type=Path, default=Path("runs"), help="results (default: runs)")
        command.add_argument("--seeds", type=int, nargs="+", default=[], help="only these seeds")
        command.add_argument("--device", default="cpu", help="torch device of the model, such as cuda (default: cpu)")
        command.add_argument("--quiet", action="store_true", help="no progress bar")
    fleet = commands.add_parser("fleet", help="play a file's runs on Flower's simulation (requirements-flower.txt)")
    fleet.add_argument("file", type=Path)
    fleet.add_argument("--out", type=Path, default=Path("runs/fleet"))
    fleet.add_argument("--nodes", type=int, default=3, help="simulated SuperNodes")
    hardware = commands.add_parser("hardware", help="one client round of each algorithm on one core and capped memory")
    hardware.add_argument("file", type=Path)
    hardware.add_argument("--megabytes", type=int, default=4000, help="of address space; beyond it memory is refused")
    hardware.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS), choices=list(ALGORITHMS))
    for command in (*players, fleet, hardware):
        command.add_argument("--data-folder", type=Path, help="rows of Hub tasks: TASK_train.jsonl and TASK_test.jsonl")
    report = commands.add_parser("report", help="tables, plots and their data from a folder of results")
    report.add_argument("folder", type=Path)
    report.add_argument("--to", type=Path, default=Path("runs/report"))
    return parser


if __name__ == "__main__":
    main()
