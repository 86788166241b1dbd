"""One optimiser step on pairs, ours against the obvious one: `python -m benchmarks.train_step [--json]`.

The obvious step (tests/reference/obvious_step.py) does two full forwards with logits over the whole vocabulary at every
position. Ours packs a pair into one row and applies the head to completion tokens only, a chunk at a time. Same model,
batch, dtype, threads and optimiser on both sides. The sides take turns, and which of them is first changes with every
turn: `speedup` is the median of the turns' own ratios, so that a neighbour on the machine meets both sides or one turn
only; `speedup_spread` has the smallest and the largest. `peak_memory_ratio` is of memory above weights, adapter and
optimiser state. All are of the whole shape; `cut` has them for the shape cut to 4 layers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from peft import get_peft_model
from torch import Tensor

from benchmarks.peak import watch_peak
from benchmarks.report import print_table
from benchmarks.shapes import DTYPES, SHAPES, build, random_pairs
from spear_core.config import preset
from spear_core.models.decoder_layers import checkpointed
from spear_core.models.shared_base import lora_config
from spear_core.training.ability import ability
from spear_core.training.losses import lose_loss, win_loss
from spear_core.training.scoring import score
from spear_core.training.traces import Encoded
from tests.reference.obvious_step import obvious_losses

CUT_LAYERS = 4
MARGIN = 0.0  # no losing token is left out: the most work there can be
LAMBDA_LOSE = 0.1
Pairs = tuple[Sequence[Encoded], Sequence[Encoded]]
Losses = Callable[[Any, Sequence[Encoded], Sequence[Encoded]], tuple[Tensor, Tensor]]


def our_losses(model: Any, wins: Sequence[Encoded], loses: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    both, n = [*wins, *loses], len(wins)
    scores = score(model, both, pad_id=0)
    mask = scores.scored.float()
    confidence = torch.tensor([e.confidence for e in both], device=mask.device)
    return (
        win_loss(scores.logps[:n], mask[:n], confidence[:n]),
        lose_loss(scores.logps[n:], mask[n:], confidence[n:], MARGIN),
    )


def their_losses(model: Any, wins: Sequence[Encoded], loses: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    return obvious_losses(model, wins, loses, 0, MARGIN)


class Side:
    """One way to take a step, with the figures of the steps it took."""

    def __init__(self, model: Any, losses: Losses, device: str, checkpointing: bool = False) -> None:
        self.model = model
        self.losses = losses
        self.device = device
        self.checkpointing = checkpointing
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-5, weight_decay=0.0)
        self.seconds: list[float] = []
        self.peaks: list[int] = []

    def step(self, pairs: Pairs) -> None:
        with checkpointed(self.model) if self.checkpointing else nullcontext():
            win, lose = self.losses(self.model, *pairs)
            (win + LAMBDA_LOSE * lose).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def measured_step(self, pairs: Pairs) -> None:
        with watch_peak(self.device) as peak:
            started = time.perf_counter()
            self.step(pairs)
            if self.device.startswith("cuda"):
                torch.cuda.synchronize()
            self.seconds.append(time.perf_counter() - started)
        self.peaks.append(peak.bytes)

    def figures(self, tokens: int) -> dict[str, float]:
        seconds = statistics.median(self.seconds)
        return {
            "seconds": round(seconds, 4),
            "tokens_per_second": round(tokens / seconds, 1),
            "peak_bytes": max(self.peaks),
        }


def compare(arguments: argparse.Namespace, layers: int) -> dict[str, Any]:
    base = build(arguments.shape, arguments.device, arguments.dtype, layers, arguments.seed)
    model = get_peft_model(base, lora_config(preset("live"), base)).eval()
    able = ability(model)
    vocabulary = int(model.config.vocab_size)
    pairs = random_pairs(vocabulary, arguments.batch, arguments.prompt, arguments.completion, arguments.seed)
    ours = Side(model, our_losses, arguments.device, arguments.checkpointing)
    obvious = Side(model, their_losses, arguments.device)
    sides = {"ours": ours, "obvious": obvious}
    for side in sides.values():
        side.step((pairs[0][:1], pairs[1][:1]))  # warm; makes the optimiser's state too
    for turn in range(arguments.repeats):
        for side in list(sides.values())[:: 1 if turn % 2 == 0 else -1]:
            side.measured_step(pairs)
    # what both sides train on: both completions after the whole prompt, twice
    tokens = 2 * arguments.batch * (arguments.prompt + arguments.completion)
    figures = {name: side.figures(tokens) for name, side in sides.items()}
    speedups = [theirs / own for theirs, own in zip(obvious.seconds, ours.seconds, strict=True)]
    return {
        "layers": layers,
        "speedup": round(statistics.median(speedups), 3),
        "speedup_spread": [round(min(speedups), 3), round(max(speedups), 3)],
        "peak_memory_ratio": round(figures["ours"]["peak_bytes"] / figures["obvious"]["peak_bytes"], 3),
        **figures,
        "fallback": able.why,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen2.5-0.5b")
    parser.add_argument("--layers", type=int, nargs="+", help=f"layers to run with (default: all, then {CUT_LAYERS})")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bfloat16")
    parser.add_argument("--batch", type=int, default=4, help="pairs a step")
    parser.add_argument("--prompt", type=int, default=256, help="tokens")
    parser.add_argument("--completion", type=int, default=32, help="tokens")
    parser.add_argument("--repeats", type=int, default=5, help="measured steps a side")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing on our side")
    parser.add_argument("--threads", type=int, default=0, help="torch threads (0: as many as torch chooses)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    whole, *rest = [
        compare(arguments, layers)
        for layers in arguments.layers or [SHAPES[arguments.shape].num_hidden_layers, CUT_LAYERS]
    ]
    settings = {k: getattr(arguments, k) for k in ("shape", "device", "dtype", "batch", "prompt", "completion")}
    if arguments.json:
        print(json.dumps({**whole, **settings, "threads": torch.get_num_threads(), "cut": rest[0] if rest else None}))
        return
    print_table(
        [
            "layers",
            "speedup",
            "smallest - largest",
            "peak memory ratio",
            "ours s",
            "obvious s",
            "ours MB",
            "obvious MB",
        ],
        [
            [
                str(r["layers"]),
                f"{r['speedup']:.2f}x",
                " - ".join(f"{ratio:.2f}x" for ratio in r["speedup_spread"]),
                f"{r['peak_memory_ratio']:.2f}x",
                *(f"{r[side]['seconds']:.3f}" for side in ("ours", "obvious")),
                *(f"{r[side]['peak_bytes'] / 1e6:.0f}" for side in ("ours", "obvious")),
            ]
            for r in (whole, *rest)
        ],
    )
    for r in (whole, *rest):
        if r["fallback"]:
            print(f"{r['layers']} layers: {r['fallback']}")


if __name__ == "__main__":
    main()
