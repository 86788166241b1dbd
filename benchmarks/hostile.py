"""Hostile input in full: `python -m benchmarks.hostile [--cases 100000] [--seed 1] [--json]`.

Runs tests/faults/test_hostile_*.py with that many cases in place of the 2,000 that run with all tests: the same strategies
and checks, other draws. A case is one hostile input, sent and looked through: a request, an event, a record to import, a
message with all that is drawn and exported of it. The cases are shared out by what can go wrong where and by speed:

- API 32 %: bodies, ids, addresses, JSON bombs on every route of /v1;
- guard 29 %: keys, cookies, origins, names of the host; a tenth of a per cent logs in, since that takes an argon2 each time;
- page 20 %: files and uploads 13 %, bodies 6 %, whole events over HTTP 1 %, which wait for Gradio's queue;
- words 19 %: imports 8 %, names 5 %, prompts 4 %, words stored, drawn and exported 3 %, since 1 MB of them takes a while,
  and adapter zips.

`tracebacks` are errors of the program that somebody would have seen; `leaks` what was shown, or changed, that is another
user's or a secret. The first of either ends its surface, and is printed with the input that led to it. Needs the
packages of requirements-dev.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.report import print_table

ROOT = Path(__file__).resolve().parents[1]
TESTS = "tests/faults"
COUNTED = ("cases", "seconds", "tracebacks", "leaks")


def run(cases: int, seed: int) -> dict[str, Any]:
    """Figures of each surface, and of all. Raises nothing for a case that fails: it is among the figures."""
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / TESTS).glob("test_hostile_*.py"))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.jsonl"
        environment = {**os.environ, "SPEAR_HOSTILE_CASES": str(cases), "SPEAR_HOSTILE_REPORT": str(report)}
        environment |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--hypothesis-seed={seed}", *files]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    if done.returncode:
        print(done.stdout[-20_000:], file=sys.stderr)
    surfaces: dict[str, Counter[str]] = {}
    for line in map(json.loads, lines):
        surfaces.setdefault(line["surface"], Counter()).update({key: line[key] for key in COUNTED})
    everything: Counter[str] = sum(surfaces.values(), Counter())
    return {
        "cases": everything["cases"],
        "tracebacks": everything["tracebacks"],
        "leaks": everything["leaks"],
        "failed_tests": re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(spent.ru_utime + spent.ru_stime, 1),  # well below the clock's: the machine was busy
        "surfaces": {
            name: {key: round(found[key], 2) for key in COUNTED}
            | {"a_second": round(found["cases"] / found["seconds"])}
            for name, found in surfaces.items()
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Hostile input against the whole app: how many cases, what got through."
    )
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = run(arguments.cases, arguments.seed)
    if arguments.json:
        print(json.dumps(figures, indent=1))
    else:
        print_table(
            ["surface", *COUNTED, "a second"], [[name, *found.values()] for name, found in figures["surfaces"].items()]
        )
        taken = f"{figures['seconds']:.0f} s ({figures['cpu_seconds']:.0f} s of the CPU)"
        print(f"{figures['cases']:,} cases in {taken}; failed: {figures['failed_tests'] or 'none'}")
    return int(bool(figures["failed_tests"]))


if __name__ == "__main__":
    sys.exit(main())
