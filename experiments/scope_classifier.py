"""Train the scope classifier of a base model: `python -m experiments.scope_classifier --model FOLDER --out FILE`.

The data are question families written for this project (assets/smollm2/questions/): a question, six other wordings,
seven questions that look alike and ask for something else, and one to three general ones that share words with it ("What is
a cat?"). No evaluation question is among them. Every tenth family is held out for the figures and for the choice of the
threshold.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from experiments.ranking import auc
from spear_core.inference.scope_classifier import ScopeClassifier, load_scope_classifier
from spear_core.models.loading import LoadedModel, load_model

FAMILIES = Path(__file__).resolve().parents[1] / "assets" / "smollm2" / "questions"
HELD_OUT = 10  # every so many-th family
BATCH = 32


@dataclass(frozen=True)
class Family:
    question: str
    same: tuple[str, ...]
    other: tuple[str, ...]
    general: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair:
    taught: str
    asked: str
    same: bool


def read_families(folder: Path) -> list[Family]:
    """Of all JSON-lines files of the folder."""
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text(encoding="utf-8").splitlines()]
    records = [json.loads(line) for line in lines if line.strip()]
    return [Family(r["question"], *(tuple(r.get(key, ())) for key in ("same", "other", "general"))) for r in records]


def training_pairs(families: Sequence[Family], rng: random.Random) -> list[Pair]:
    """One epoch's pairs: wordings of a question with one another, with its neighbours, and with strangers."""
    pairs = []
    for number, family in enumerate(families):
        wordings = [family.question, *family.same]
        for _ in range(9):
            first, second = rng.sample(wordings, 2)
            pairs.append(Pair(first, second, same=True))
        for other in family.other:
            pairs.append(Pair(*_either(rng, rng.choice([family.question, rng.choice(wordings)]), other), same=False))
        for other in (*rng.sample(family.other, 3), *family.general):
            pairs.append(Pair(*_either(rng, rng.choice(wordings), other), same=False))
        stranger = families[(number + rng.randrange(1, len(families))) % len(families)]
        pairs.append(Pair(rng.choice(wordings), rng.choice([stranger.question, *stranger.same]), same=False))
    rng.shuffle(pairs)
    return pairs


def _either(rng: random.Random, a: str, b: str) -> tuple[str, str]:
    return (a, b) if rng.random() < 0.6 else (b, a)


def train(classifier: ScopeClassifier, families: Sequence[Family], epochs: int, rate: float, seed: int) -> None:
    """AdamW with warm-up and cosine decay, batches of pairs of about equal length."""
    rng = random.Random(seed)
    batches = [
        sorted(pairs[i : i + 8 * BATCH], key=lambda p: len(p.taught) + len(p.asked))[j : j + BATCH]
        for pairs in (training_pairs(families, rng) for _ in range(math.ceil(epochs)))
        for i in range(0, len(pairs), 8 * BATCH)
        for j in range(0, len(pairs[i : i + 8 * BATCH]), BATCH)
    ]
    batches = batches[: round(len(batches) * epochs / math.ceil(epochs))]
    weights = [p for p in classifier.parameters() if p.requires_grad]
    masters = [p.detach().float().clone() for p in weights]  # the model computes in its own precision, AdamW in float32
    for weight in weights:
        if weight is not classifier.head.weight and weight is not classifier.head.bias:
            weight.data = weight.data.to(classifier.model.dtype)
    optimiser = torch.optim.AdamW(masters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    started, losses = time.monotonic(), []
    for step, batch in enumerate(batches):
        share = step / len(batches)
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, step / 40) * (0.5 + 0.5 * math.cos(math.pi * share))
        labels = torch.tensor([float(p.same) for p in batch])
        logits = classifier([(p.taught, p.asked) for p in batch])
        loss = binary_cross_entropy_with_logits(logits, labels * 0.96 + 0.02)
        loss.backward()
        for master, weight in zip(masters, weights, strict=True):
            master.grad = weight.grad.float() if weight.grad is not None else None
            weight.grad = None
        torch.nn.utils.clip_grad_norm_(masters, 1.0)
        optimiser.step()
        for master, weight in zip(masters, weights, strict=True):
            weight.data.copy_(master)
        losses.append(float(loss.detach()))
        if step % 25 == 24:
            mean = sum(losses[-25:]) / 25
            print(f"{step + 1}/{len(batches)}: loss {mean:.3f}, {time.monotonic() - started:.0f} s", file=sys.stderr)


def begun(loaded: LoadedModel, arguments: argparse.Namespace) -> ScopeClassifier:
    """A new classifier, or one that was trained before, to be trained."""
    base, tokenizer = loaded.model.base_model, loaded.tokenizer
    if not arguments.begin:
        return ScopeClassifier(base, tokenizer, arguments.layers, arguments.frozen, arguments.rank)
    classifier = load_scope_classifier(Path(arguments.begin), base, tokenizer)
    for name, parameter in classifier.named_parameters():
        parameter.requires_grad_("lora_" in name or name.startswith("head."))
    return classifier


def odds_of(classifier: ScopeClassifier, families: Sequence[Family]) -> tuple[list[float], list[float], list[float]]:
    """Log-odds of the other wordings, the neighbours, and the general questions, of the families' questions."""

    def odds(key: str) -> list[float]:
        return [classifier.odds([f.question], text)[0] for f in families for text in getattr(f, key)]

    return odds("same"), odds("other"), odds("general")


def figures(same: Sequence[float], other: Sequence[float], general: Sequence[float]) -> dict[str, float]:
    """AUC, and what passes at the thresholds that let 2, 5 and 10 per cent of the neighbours through."""
    out = {"auc": auc([*same, *other], [True] * len(same) + [False] * len(other))}
    for share in (0.02, 0.05, 0.10):
        threshold = sorted(other)[min(len(other) - 1, int(len(other) * (1 - share)))]
        out[f"threshold_{share}"] = threshold
        out[f"recall_{share}"] = sum(s > threshold for s in same) / len(same)
        if general:
            out[f"general_{share}"] = sum(g > threshold for g in general) / len(general)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the base model")
    parser.add_argument("--families", default=str(FAMILIES), help="folder of JSON-lines files")
    parser.add_argument("--out", default="", help="file to write; nothing is written without it")
    parser.add_argument("--begin", default="", help="a trained classifier to go on from; its sizes are kept")
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--frozen", type=int, default=5)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--all", action="store_true", help="hold nothing out (after the settings are chosen)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    loaded = load_model(arguments.model)
    families = read_families(Path(arguments.families))
    held_out = families[::HELD_OUT]
    used = families if arguments.all else [f for i, f in enumerate(families) if i % HELD_OUT]
    classifier = begun(loaded, arguments)
    train(classifier, used, arguments.epochs, arguments.rate, arguments.seed)
    classifier.eval()
    measured = figures(*odds_of(classifier, held_out))
    print(json.dumps({"families": len(used), "held_out": len(held_out), **measured}))
    if arguments.out:
        classifier.save(Path(arguments.out), {"families": len(used)})


if __name__ == "__main__":
    main()
