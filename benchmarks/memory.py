"""What the training model costs in memory: `python -m benchmarks.memory [--json]`.

`twin_ratio`: private memory of serving plus a training model, over that of serving alone. Serving is the base weights with
a published adapter; the training model adds its module tree, its adapter, the gradients and AdamW's state. Before activations: no
forward is run. Each side is a process of its own, and what it used before it built a model is not counted.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import torch
from peft import get_peft_model

from benchmarks.peak import private_bytes
from benchmarks.report import print_table
from benchmarks.shapes import DTYPES, SHAPES, build
from spear_core.config import preset
from spear_core.models.shared_base import SharedBaseModels, lora_config, share_base

BAR = 1.15


def serving_bytes(shape: str, device: str, dtype: str) -> int:
    """Private bytes of the base model and one adapter over it."""
    before = _ready(device)
    base = build(shape, device, dtype)
    serving = get_peft_model(share_base(base), lora_config(preset("live"), base)).requires_grad_(False).eval()
    used = private_bytes(device) - before
    del serving, base
    return used


def shared_models_bytes(shape: str, device: str, dtype: str) -> int:
    """Private bytes of both models, with gradients and optimiser state, as between backward and step of a round."""
    before = _ready(device)
    shared_models = SharedBaseModels(build(shape, device, dtype), preset("live"), seed=1)
    shared_models.publish(shared_models.state(), 1)
    trained = [p for p in shared_models.training.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
    for p in trained:
        p.grad = torch.full_like(p, 1e-3)
    optimizer.step()
    used = private_bytes(device) - before
    del shared_models, optimizer
    return used


def _ready(device: str) -> int:
    """Private bytes once torch, the device and PEFT have been used."""
    small = build("tiny", device)
    get_peft_model(small, lora_config(preset("live"), small))
    del small
    return private_bytes(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen2.5-0.5b")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bfloat16")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    arguments = parser.parse_args()
    figures = {}
    for name, side in (("serving_bytes", serving_bytes), ("twins_bytes", shared_models_bytes)):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            figures[name] = process.submit(side, arguments.shape, arguments.device, arguments.dtype).result()
    ratio = figures["twins_bytes"] / figures["serving_bytes"]
    if arguments.json:
        settings = {"shape": arguments.shape, "device": arguments.device, "dtype": arguments.dtype}
        print(json.dumps({"twin_ratio": round(ratio, 4), **figures, **settings}))
    else:
        print_table(
            ["serving alone", "with the training model", f"ratio (bar {BAR})"],
            [
                [
                    f"{figures['serving_bytes'] / 1e6:.0f} MB",
                    f"{figures['shared_models_bytes'] / 1e6:.0f} MB",
                    f"{ratio:.3f}",
                ]
            ],
        )


if __name__ == "__main__":
    main()
