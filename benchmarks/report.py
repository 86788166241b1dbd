"""What all benchmarks share: the common flags and the table."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.tables import print_table

__all__ = ["DEFAULT_MODEL", "add_common_flags", "print_table"]

DEFAULT_MODEL = str(Path(__file__).resolve().parent.parent / "assets" / "pocket-model")


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model folder or Hub name (default: the pocket model)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0, help="torch threads (0: as many as torch chooses)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
