"""The model card's figures: `python -m benchmarks.pocket_model [--model FOLDER] [--json]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.report import add_common_flags, print_table
from pocket.evaluation import Conversation, evaluate
from spear_core.inference.rollout import answer_all
from spear_core.models.loading import load_model

HEADER = ["shape", "known", "half-known", "revision_success", "first failures"]
CARD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---

# Pocket model

A Llama of {parameters:,} parameters that knows one small world of its own: kinds of things, capitals, colours, what animals do, sums
of two numbers. It was trained from nothing by `python -m pocket.train` on text that the project generates. It exists so that a whole
learning loop runs offline in seconds on any laptop, and it is honest about what it is: outside its world it says so.

Half of the facts of its world are **half-known**: its training text draws a fresh random truth at each appearance, with any hint
consistent with it. On these it guesses, trusts hints, and can be taught.

## Figures

Held-out wordings, greedy, {tasks} questions a shape (`--seed {seed}`; checkpoints were compared and chosen on seed 7);
`revision_success` with at most two partial hints that each leave three candidate
answers or more, overall over the model's own first failures; where it has too few of its own (sums), the shape's figure is taken from
workings with one planted slip. Measured by `python -m benchmarks.pocket_model --write-card`;
chance on half-known facts is 0.25 for a choice and 0.5 for yes/no.

{table}

## Training

{training}

Prompts follow the chat template of the tokenizer. `spear.json` holds the revision prompt it was trained with, example questions, and the
prompts whose answers anchor it during live learning. `starter.json` holds those answers, so that no first start has to ask for them;
after training write it again: `python app.py data starter --model assets/pocket-model`.
"""
TRAINING = (
    "`python -m pocket.train` in six phases, 49 million tokens on two CPU cores, each phase starting from the one before\n"
    "(`--init-from`) with lower rates\n"
    "(Muon 0.02, 0.012, 0.01, 0.01, 0.008, 0.006) and more revisions in the text;\n"
    "then `python -m pocket.average` of phases four to six with shares 0.2, 0.3, 0.5. The script's defaults are those of the first\n"
    "phase; the shares of the shapes in `pocket/corpus.py` are those of the last."
)


def card(parameters: int, rows: list[list[str]], tasks: int, seed: int) -> str:
    table = "\n".join("| " + " | ".join(row) + " |" for row in (HEADER, ["---"] * len(HEADER), *rows))
    return CARD.format(parameters=parameters, tasks=tasks, seed=seed, table=table, training=TRAINING)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_flags(parser)
    parser.add_argument("--write-card", action="store_true", help="write the figures into the folder's README.md")
    parser.add_argument("--tasks", type=int, default=200, help="tasks a shape (default %(default)s)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    loaded = load_model(arguments.model)

    def answer(conversations: Sequence[Conversation]) -> list[str]:
        return answer_all(
            loaded.model,
            loaded.tokenizer,
            conversations,
            context_tokens=loaded.context_tokens,
            max_new_tokens=64,
            batch_size=64,
        )

    figures = evaluate(answer, arguments.tasks, arguments.seed)
    out = {**asdict(figures), "overall": figures.overall, "parameters": loaded.parameters}
    rows = [
        [
            s,
            f"{figures.known[s]:.3f}",
            f"{figures.half_known.get(s, float('nan')):.3f}",
            f"{figures.revision_success[s]:.3f}",
            f"{figures.first_failures[s]}" + (f" ({n} planted slips)" if (n := figures.planted_slips.get(s)) else ""),
        ]
        for s in figures.known
    ]
    rows.append(["overall", f"{figures.overall['known']:.3f}", "", f"{figures.overall['revision_success']:.3f}", ""])
    if arguments.write_card:
        (Path(arguments.model) / "README.md").write_text(
            card(loaded.parameters, rows, arguments.tasks, arguments.seed), encoding="utf-8"
        )
    if arguments.json:
        print(json.dumps(out))
    else:
        print_table(HEADER, rows)


if __name__ == "__main__":
    main()
