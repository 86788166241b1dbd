"""What each part of the `live` preset is worth: paired differences on the same streams.

`python -m benchmarks.ablations [--interactions 100] [--seeds 1 2 3] [--only no_replay ...] [--json] [--out FOLDER]`
Every variant changes one thing of the preset. With fewer than ten seeds the differences are shown without a p-value.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

from benchmarks.live_learning import run
from benchmarks.report import add_common_flags, print_table

VARIANTS: dict[str, list[str]] = {
    "live": [],
    "no_settling": ["settle_steps=0"],
    "no_prompt_dropout": ["prompt_dropout=0.0"],
    "anchor_dropout": ["anchor_dropout=0.2"],
    "no_replay": ["replay_wins=0"],
    "no_anchors": [
        "anchor_weight=0.0",
        "gate_max_probe_kl=1000.0",
        "gate_max_changed=1.0",
        "gate_max_worst_probe_kl=1000.0",
    ],
    "anchors_drawn_evenly": ["anchor_drift_share=0.0"],
    "twice_the_anchors": ["anchors_a_step=16"],
    "lighter_anchors": ["anchor_weight=1.0"],
    "heavier_anchors": ["anchor_weight=10.0"],
    "half_the_rate": ["learning_rate=0.0005"],
    "twice_the_rate": ["learning_rate=0.002"],
    "rank_2": ["lora_rank=2", "lora_alpha=4"],
    "rank_32": ["lora_rank=32", "lora_alpha=64"],
    "no_gate": ["gate_enabled=False"],
    "unlikelihood_distinguishing": ["lambda_lose=0.1", "margin=0.3"],
    "unlikelihood_tail": ["lambda_lose=0.1", "margin=0.3", "lose_mask=tail"],
    "unlikelihood_no_margin": ["lambda_lose=0.1", "margin=0.0"],
    "unlikelihood_strong": ["lambda_lose=1.0", "margin=0.0"],
    "batch_mean_confidence": ["lambda_lose=0.1", "margin=0.3", "confidence_form=batch_mean"],
}
SHOWN = (
    "revision_success",
    "learned_same",
    "learned_paraphrase",
    "lasting",
    "retention_drop",
    "first_try_gain",
    "overall_gain",
    "outside_changed",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.add_argument("--interactions", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--out", default="", metavar="FOLDER", help="keep each run here, and resume from it")
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {}
    for name in dict.fromkeys(["live", *arguments.only]):
        for seed in arguments.seeds:
            one = copy.copy(arguments)
            one.seed, one.set, one.noise, one.preset = seed, VARIANTS[name], 0.0, "live"
            one.out = str(Path(arguments.out) / f"{name}-{seed}") if arguments.out else ""
            results.setdefault(name, []).append(run(one))
    if arguments.json:
        print(json.dumps(results))
        return
    rows = []
    for name, runs in results.items():
        base = results["live"]
        cells = []
        for figure in SHOWN:
            mean = sum(r[figure] for r in runs) / len(runs)
            paired = sum(r[figure] - b[figure] for r, b in zip(runs, base, strict=True)) / len(runs)
            cells.append(f"{mean:.2f}" if name == "live" else f"{mean:.2f} ({paired:+.2f})")
        rows.append([name, *cells])
    print_table(["variant", *SHOWN], rows)


if __name__ == "__main__":
    main()
