"""One client round of a published run with a random model of the real shape: does it play, and what does it take?

`python -m benchmarks.paper_round experiments/runs_paper/arc_challenge.toml --variant qwen2.5-1.5b --data-folder FOLDER
[--layers 2] [--rollouts 2] [--tokens 16] [--algorithm spear] [--device cuda] [--json]`

Architecture, widths and vocabulary are those of the published config.json; --layers cuts the model to its first layers.
The tokenizer is the pocket model's; for the base Llama, which has none, without a chat template. A random model is never right, so
every second reply is called right. `peak_bytes` is memory above what the process held before the model was built.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from benchmarks.peak import watch_peak
from benchmarks.report import DEFAULT_MODEL, print_table
from benchmarks.shapes import build
from experiments.algorithms import ALGORITHMS
from experiments.runner import Simulation
from experiments.settings import Run, read_runs
from spear_core.models.loading import LoadedModel
from spear_core.models.settings import ModelSettings
from spear_core.training.process_memory import keep_little

HAS_CHAT_TEMPLATE = {"qwen2.5-1.5b": True, "llama-3.2-3b": False}  # of the base models


def run_of(arguments: argparse.Namespace) -> Run:
    """The published run, with only as much played as was asked for."""
    runs = read_runs(arguments.file)
    run = next(r for r in runs if r.variant == arguments.variant and r.algorithm == arguments.algorithm)
    play, spear = run.play, run.spear
    if arguments.rollouts:
        play = dataclasses.replace(play, rollouts=arguments.rollouts)
    if arguments.tokens:
        spear = spear.replace(max_new_tokens=arguments.tokens)
    folder = str(arguments.data_folder)
    data = dataclasses.replace(run.data, folder=folder, test=1)
    return dataclasses.replace(run, play=play, spear=spear, data=data)


def one_round(run: Run, shape: str, device: str, layers: int | None) -> dict[str, Any]:
    with watch_peak(device) as peak:
        model = build(shape, device, layers=layers)
        tokenizer = AutoTokenizer.from_pretrained(DEFAULT_MODEL)
        if not HAS_CHAT_TEMPLATE[shape]:
            tokenizer.chat_template = None
        parameters = sum(p.numel() for p in model.parameters())
        context = model.config.max_position_embeddings
        world = Simulation(run, LoadedModel(model, tokenizer, shape, "0" * 16, parameters, context, ModelSettings()))
        said = itertools.cycle((True, False))
        world.runtime.task.right = lambda example, reply: next(said)  # type: ignore[method-assign]
        began = time.monotonic()
        counts = world.client(0, 0, world.runtime.state()).counts
        seconds = time.monotonic() - began
    return {
        "parameters": parameters,
        "layers": model.config.num_hidden_layers,
        "prompts": counts.prompts,
        "generated_tokens": counts.generated_tokens,
        "steps": counts.steps,
        "loss": round(counts.loss, 4),
        "seconds": round(seconds, 1),
        "peak_bytes": peak.bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a run file of experiments/runs_paper")
    parser.add_argument("--variant", choices=sorted(HAS_CHAT_TEMPLATE), default="qwen2.5-1.5b")
    parser.add_argument("--algorithm", choices=sorted(ALGORITHMS), default="spear")
    parser.add_argument("--data-folder", type=Path, required=True)
    parser.add_argument("--layers", type=int, help="only the first layers (default: all)")
    parser.add_argument("--rollouts", type=int, default=0, help="prompts (default: the run file's)")
    parser.add_argument("--tokens", type=int, default=0, help="of a reply, at most (default: the run file's)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_little()
    figures = one_round(run_of(arguments), arguments.variant, arguments.device, arguments.layers)
    if arguments.json:
        print(json.dumps({"variant": arguments.variant, "algorithm": arguments.algorithm, **figures}))
    else:
        print_table(["figure", "value"], [[name, str(value)] for name, value in figures.items()])


if __name__ == "__main__":
    main()
