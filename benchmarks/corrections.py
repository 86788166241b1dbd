"""Corrections in conversation: `python -m benchmarks.corrections --model FOLDER [--split test|life|tune] [--json]`.

Which of 100 follow-ups are taken for a correction of the reply before them? 50 are: "no, it's rabat", "thirty-two". 50 are
not: questions, thanks, "no rush", opinions, news, new topics. They were written for this (`follow_ups.json`), as were 120 of
everyday life (`--split life`), half of them corrections, after questions how, why and whether, on what is the person's own,
and after refusals; whoever wrote those had not seen the rules. Words, weights and thresholds were chosen on others. The
application decides by the model's classifier where it has one (spear_core/inference/correction_classifier.py), else by cues
and the model's judgement (corrections.py); those are also shown each alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import add_common_flags, print_table
from experiments.correction_classifier import read_moments
from spear_core.inference.correction_classifier import FILE, load_correction_classifier, takes
from spear_core.inference.corrections import MIN_INFORMATION, FollowUp, Sign, cue, information, may_state
from spear_core.models.loading import load_model
from spear_core.training.traces import Encoder

FOLLOW_UPS = Path(__file__).with_name("follow_ups.json")
BARS = {"precision": 0.95, "recall": 0.7}


def read(split: str) -> list[tuple[FollowUp, bool]]:
    """(follow-up, is it a correction) of one split: tune | test | life."""
    return [(m.follow_up, m.is_correction) for m in read_moments(FOLLOW_UPS, split=split)]


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
    parser.add_argument("--split", choices=("test", "life", "tune"), default="test")
    flags = parser.parse_args(arguments)
    if flags.threads:
        torch.set_num_threads(flags.threads)
    loaded = load_model(flags.model)
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    follow_ups, truth = zip(*read(flags.split), strict=True)
    signs, informations = [cue(f) for f in follow_ups], [information(loaded.model, encoder, f) for f in follow_ups]
    found = measure(signs, informations, truth)
    rule = found["cues and model"]
    file = Path(flags.model) / FILE
    if file.is_file():
        classifier = load_correction_classifier(file, loaded.model.base_model, loaded.tokenizer)
        taken = [
            may_state(f) and takes(classifier.least, classifier.odds(f, sign), sign)
            for f, sign in zip(follow_ups, signs, strict=True)
        ]
        rule = outcome(taken, truth)
        found = {"classifier": rule, **found}
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
