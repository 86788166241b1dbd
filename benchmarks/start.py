"""How long a start takes, from the command to the first HTTP 200: with a fresh data folder, and again with the same one.

`python -m benchmarks.start --json [--times 3]`
A first start converts the default model. What `make chat` adds, once everything is installed, is make itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.app_process import running_app
from benchmarks.report import add_common_flags
from benchmarks.studies import print_figures
from services.models.built_in import AUTO


def start_seconds(model: str, data_folder: Path) -> float:
    """From the start of the process to the page's answer."""
    began = time.monotonic()
    with running_app(model, data_folder) as app:
        httpx.get(app.url, timeout=60).raise_for_status()
        return time.monotonic() - began


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    first, later = [], []
    for _ in range(arguments.times):
        with tempfile.TemporaryDirectory() as folder:
            first.append(start_seconds(arguments.model, Path(folder)))
            later.append(start_seconds(arguments.model, Path(folder)))
    return {
        "first_start_seconds": first,
        "later_start_seconds": later,
        "first_start_seconds_p50": statistics.median(first),
        "later_start_seconds_p50": statistics.median(later),
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.set_defaults(model=AUTO)
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    print_figures(run(arguments), as_json=arguments.json)


if __name__ == "__main__":
    main()
