"""Corrections in conversation: `python -m benchmarks.corrections --model FOLDER [--json]`.

Which of 100 follow-ups are taken for a correction of the reply before them (spear_core/inference/corrections.py)? 50 are:
"no, it's rabat", "thirty-two". 50 are not: questions, thanks, "no rush", opinions, news, new topics. They were written by
hand for this (`follow_ups.json`), and the words and the threshold were chosen on 265 others, marked `tune` there. Cues
and the model's judgement are also shown each alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import add_common_flags, print_table
from spear_core.inference.corrections import MIN_INFORMATION, FollowUp, Sign, cue, information
from spear_core.models.loading import load_model
from spear_core.training.traces import Encoder

FOLLOW_UPS = Path(__file__).with_name("follow_ups.json")
BARS = {"precision": 0.95, "recall": 0.7}


def read(split: str) -> list[tuple[FollowUp, bool]]:
    """(follow-up, is it a correction) of one split: tune | test."""
    items = json.loads(FOLLOW_UPS.read_text(encoding="utf-8"))
    chosen = [item for item in items if item["split"] == split]
    return [(FollowUp(i["question"], i["reply"], i["message"]), i["correction"]) for i in chosen]


def outcome(taken: Sequence[bool], truth: Sequence[bool]) -> dict[str, Any]:
    """Precision is None where nothing was taken for a correction."""
    right = sum(t and y for t, y in zip(taken, truth, strict=True))
    return {
        "taken": sum(taken),
        "precision": right / sum(taken) if any(taken) else None,
        "recall": right / sum(truth),
    }


def measure(signs: Sequence[Sign], found: Sequence[float], truth: Sequence[bool]) -> dict[str, Any]:
    """The rule, and its parts alone."""
    pairs = list(zip(signs, found, strict=True))
    rules = {
        "cues and model": [s is Sign.STRONG or (s is Sign.WEAK and x >= MIN_INFORMATION) for s, x in pairs],
        "strong cues alone": [s is Sign.STRONG for s, _ in pairs],
        "any cue alone": [s is not Sign.NONE for s, _ in pairs],
        "model alone": [x >= MIN_INFORMATION for _, x in pairs],
    }
    return {name: outcome(taken, truth) for name, taken in rules.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corrections", description=__doc__.splitlines()[0])
    add_common_flags(parser)
    parser.add_argument("--split", choices=("test", "tune"), default="test")
    flags = parser.parse_args(arguments)
    if flags.threads:
        torch.set_num_threads(flags.threads)
    loaded = load_model(flags.model)
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    follow_ups, truth = zip(*read(flags.split), strict=True)
    found = measure([cue(f) for f in follow_ups], [information(loaded.model, encoder, f) for f in follow_ups], truth)
    rule = found["cues and model"]
    met = all((rule[name] or 0.0) >= bar for name, bar in BARS.items())
    if flags.json:
        print(json.dumps({"model": flags.model, "split": flags.split, "cases": len(truth), "bars_met": met, **found}))
        return
    print_table(
        ("rule", "taken", "precision", "recall"),
        [
            (name, f["taken"], "-" if f["precision"] is None else f"{f['precision']:.3f}", f"{f['recall']:.3f}")
            for name, f in found.items()
        ],
    )


if __name__ == "__main__":
    main()
