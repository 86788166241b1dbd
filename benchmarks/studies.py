"""What studies of learning have in common: flags, settings and the table of their figures. No study is run here."""

from __future__ import annotations

import argparse
import ast
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import add_common_flags, print_table
from services.settings import Settings


def study_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the flags of every study that learns and can be resumed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.add_argument("--preset", default="live")
    parser.add_argument(
        "--out", default="", metavar="FOLDER", help="keep checkpoints and figures here, and resume from them"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one key of the preset (repeatable)"
    )
    return parser


def changed_keys(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `--set` asks for: the keys of the preset with Python values; a word that is no literal stays a text."""
    return {key: _value(value) for key, _, value in (item.partition("=") for item in arguments.set)}


def study_settings(arguments: argparse.Namespace, data_folder: Path) -> Settings:
    """The app's settings for a study. Raises ConfigError for a key or value that is not allowed."""
    return Settings(
        model=arguments.model,
        data_folder=data_folder,
        preset=arguments.preset,
        threads=arguments.threads,
        seed=arguments.seed,
        spear=changed_keys(arguments),
    )


def print_figures(figures: Mapping[str, Any], *, as_json: bool) -> None:
    """A table of the numbers and texts among the figures, or all of them as JSON."""
    if as_json:
        print(json.dumps(figures))
        return
    rows = [(key, value) for key, value in figures.items() if isinstance(value, int | float | str)]
    print_table(["figure", "value"], [[key, f"{v:.3f}" if isinstance(v, float) else str(v)] for key, v in rows])


def save_checkpoint(checkpoint: Path, data: Path, file: str, progress: Mapping[str, Any]) -> None:
    """Save the data folder and, as `file`, the progress. The old checkpoint is replaced only by a complete new one."""
    temporary = checkpoint.with_name("checkpoint.new")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(data, temporary / "data")
    (temporary / file).write_text(json.dumps(progress))
    shutil.rmtree(checkpoint, ignore_errors=True)
    temporary.rename(checkpoint)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
