"""Fit the correction classifier of a base model: `python -m experiments.correction_classifier --model FOLDER --out FILE`.

The data are moments of chats written for this project: a question, a reply, the person's next message, and whether that
corrects the reply. They are in assets/smollm2/follow_ups/, with those of benchmarks/follow_ups.json that are marked
`tune`; the ones marked otherwise there are for the figures and never read here. For the choice of layer, decay and threshold
five parts are held out in turn, each with all follow-ups of its questions.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.ranking import auc
from spear_core.inference.correction_classifier import CorrectionClassifier, FollowUpStates, Least, fit, takes
from spear_core.inference.corrections import FollowUp, Sign, cue, may_state
from spear_core.inference.hint_words import plain_words
from spear_core.models.loading import load_model
from spear_core.training.neighbours import question_key

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "assets" / "smollm2" / "follow_ups"
TUNED_ON = ROOT / "benchmarks" / "follow_ups.json"
EVALUATION = ROOT / "benchmarks" / "data"
PARTS = 5


@dataclass(frozen=True)
class Moment:
    """A follow-up, and whether it is a correction."""

    follow_up: FollowUp
    is_correction: bool


def read_moments(*files: Path, split: str = "") -> list[Moment]:
    """Of JSON lists; with `split`, only the records that are marked so."""
    records = [record for file in files for record in _records(file)]
    return [
        Moment(FollowUp(r["question"], r["reply"], r["message"]), bool(r["correction"]))
        for r in records
        if not split or r["split"] == split
    ]


def _records(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return found


def training_moments() -> list[Moment]:
    """All that the classifier may be fitted on: no question that an evaluation asks, in whatever words, and no message of the
    follow-ups there.
    """
    held = [r for r in _records(TUNED_ON) if r["split"] != "tune"]
    messages = {tuple(plain_words(r["message"])) for r in held}
    evaluated = {question_key(r["question"]) for r in held}
    evaluated |= {question_key(line) for line in (EVALUATION / "unrelated_questions.txt").read_text().splitlines()}
    for fact in _records(EVALUATION / "personal_facts.json"):
        evaluated |= {question_key(text) for text in (fact["question"], *fact["wordings"], *fact["neighbours"])}
    found = [*read_moments(*sorted(FOLDER.glob("*.json"))), *read_moments(TUNED_ON, split="tune")]
    return [
        m
        for m in found
        if question_key(m.follow_up.question) not in evaluated - {""}
        and tuple(plain_words(m.follow_up.message)) not in messages
    ]


def held_out_odds(
    moments: Sequence[Moment], states: Sequence[Tensor], signs: Sequence[Sign], decay: float, seed: int = 0
) -> list[float]:
    """Log-odds of each moment by a classifier that has seen no follow-up of its question."""
    questions = sorted({m.follow_up.question for m in moments})
    random.Random(seed).shuffle(questions)
    part = {question: i % PARTS for i, question in enumerate(questions)}
    odds = [0.0] * len(moments)
    for held in range(PARTS):
        seen = [i for i, m in enumerate(moments) if part[m.follow_up.question] != held]
        weight, of_sign = fit(
            [states[i] for i in seen], [signs[i] for i in seen], [moments[i].is_correction for i in seen], decay
        )
        for i, m in enumerate(moments):
            if part[m.follow_up.question] == held:
                odds[i] = float(states[i] @ weight + of_sign[signs[i]])
    return odds


def threshold(odds: Sequence[float], truth: Sequence[bool], precision: float) -> tuple[float, float]:
    """The lowest log-odds from which on this share of what is taken is right, and the recall there."""
    found, right = (float("inf"), 0.0), 0
    for number, (value, is_right) in enumerate(sorted(zip(odds, truth, strict=True), reverse=True), start=1):
        right += is_right
        if is_right and right / number >= precision:
            found = value, right / sum(truth)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the base model")
    parser.add_argument("--out", required=True, help="file to be written, such as corrections.safetensors")
    parser.add_argument("--layers", type=int, nargs="+", default=[16, 18, 20], help="whose inputs are tried")
    parser.add_argument("--decays", type=float, nargs="+", default=[0.01, 0.05, 0.2])
    parser.add_argument("--precision", type=float, default=0.95, help="for which the recall of a setting is told")
    parser.add_argument(
        "--least",
        type=float,
        nargs=3,
        default=[2.0, 1.75, -1.0],
        metavar=("NONE", "WEAK", "STRONG"),
        help="log-odds from which on a message is taken for a correction, by the sign of its words (default: as shipped)",
    )
    arguments = parser.parse_args()
    loaded = load_model(arguments.model)
    moments = training_moments()
    truth = [m.is_correction for m in moments]
    signs = [cue(m.follow_up) for m in moments]
    best: tuple[float, int, float] = (0.0, 0, 0.0)
    read: dict[int, list[Tensor]] = {}
    held_out: dict[tuple[int, float], list[float]] = {}  # odds, by layer and decay
    for layer in arguments.layers:
        states = FollowUpStates(loaded.model.base_model, loaded.tokenizer, layer)
        read[layer] = [states(m.follow_up) for m in moments]
        for decay in arguments.decays:
            odds = held_out[layer, decay] = held_out_odds(moments, read[layer], signs, decay)
            begins, recall = threshold(odds, truth, arguments.precision)
            area = auc(odds, truth)
            print(f"layer {layer}, decay {decay}: AUC {area:.3f}, recall {recall:.2f} from {begins:.2f} on", flush=True)
            best = max(best, (area, layer, decay))
    area, layer, decay = best
    least = Least(*arguments.least)
    states = FollowUpStates(loaded.model.base_model, loaded.tokenizer, layer)
    made = CorrectionClassifier(states, *fit(read[layer], signs, truth, decay), least)
    made.save(Path(arguments.out))
    taken = [
        may_state(m.follow_up) and takes(least, value, sign)
        for m, value, sign in zip(moments, held_out[layer, decay], signs, strict=True)
    ]
    right = sum(a and b for a, b in zip(taken, truth, strict=True))
    told = {"moments": len(moments), "layer": layer, "decay": decay, "auc": area}
    print(json.dumps({**told, "precision": right / max(1, sum(taken)), "recall": right / sum(truth)}))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
