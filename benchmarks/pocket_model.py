"""The model card's figures: `python -m benchmarks.pocket_model [--model FOLDER] [--json]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

import torch

from benchmarks.report import add_common_flags, print_table
from pocket.evaluation import Conversation, evaluate
from spear_core.generate import answer_all
from spear_core.loading import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_flags(parser)
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
    if arguments.json:
        print(json.dumps(out))
        return
    rows = [
        [
            s,
            f"{figures.known[s]:.3f}",
            f"{figures.half_known.get(s, float('nan')):.3f}",
            f"{figures.revision_success[s]:.3f}",
            str(figures.first_failures[s]),
        ]
        for s in figures.known
    ]
    rows.append(["overall", f"{figures.overall['known']:.3f}", "", f"{figures.overall['revision_success']:.3f}", ""])
    print_table(["shape", "known", "half-known", "revision_success", "first failures"], rows)


if __name__ == "__main__":
    main()
