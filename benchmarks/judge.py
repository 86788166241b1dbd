"""The judge against the oracle: `python -m benchmarks.judge [--json]`. Calibrates tau and tau_full on the pocket tasks.

First failures on half-known facts get one partial hint; the revision is scored by the judge and by the task's verdict.
Calibration uses one half of the cases, the figures come from the other. Abstentions count as misses in the recall.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch

from benchmarks.report import add_common_flags, print_table
from pocket.evaluation import ask, distinct_tasks
from pocket.simulated_user import SimulatedUser
from pocket.tasks import SHAPES
from spear_core.judge import Case, calibrate, gains, is_clean
from spear_core.loading import LoadedModel, load_model
from spear_core.prompts import revision_messages
from spear_core.rollout import answer_all
from spear_core.traces import Encoder


def scored_cases(loaded: LoadedModel, tasks_a_shape: int, seed: int) -> list[tuple[str, float, bool, bool]]:
    """(shape, gain, clean, right) of one revision for every first failure."""
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    pad = loaded.tokenizer.pad_token_id

    def answers(conversations: list[Any]) -> list[str]:
        return answer_all(
            loaded.model,
            loaded.tokenizer,
            conversations,
            context_tokens=loaded.context_tokens,
            max_new_tokens=64,
            batch_size=64,
        )

    out: list[tuple[str, float, bool, bool]] = []
    user = SimulatedUser(seed)
    for shape in SHAPES:
        tasks = distinct_tasks(shape, tasks_a_shape, seed, half_known=True, held_out=False)
        first = answers([ask(t.question) for t in tasks])
        failed = [(t, r) for t, r in zip(tasks, first, strict=True) if not t.verdict(r)]
        hints = [user.correct(t).hint(r) for t, r in failed]
        asked = [
            revision_messages(ask(t.question), [(r, h)], loaded.settings)
            for (t, r), h in zip(failed, hints, strict=True)
        ]
        revised = answers(asked)
        cases = [Case(ask(t.question), r, h, y) for (t, r), h, y in zip(failed, hints, revised, strict=True)]
        for (task, _), case, gain in zip(
            failed, cases, gains(loaded.model, encoder, loaded.settings, cases, pad), strict=True
        ):
            out.append((shape, gain, is_clean(case, loaded.settings), task.verdict(case.revision)))
    return out


def precision_recall(cases: list[tuple[str, float, bool, bool]], tau: float) -> tuple[float, float]:
    accepted = [right for _, gain, clean, right in cases if clean and gain >= tau]
    right = sum(r for *_, r in cases)
    return (sum(accepted) / len(accepted) if accepted else 1.0), (sum(accepted) / right if right else 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.add_argument("--tasks", type=int, default=300, help="tasks a shape (default %(default)s)")
    parser.add_argument("--precision", type=float, default=0.99, help="what calibration asks for, on its own half")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    cases = scored_cases(load_model(arguments.model), arguments.tasks, arguments.seed)
    calibration, test = cases[::2], cases[1::2]
    found = calibrate([(gain, right) for _, gain, clean, right in calibration if clean], arguments.precision)
    tau, tau_full = found if found else (float("inf"), float("inf"))
    figures: dict[str, Any] = {"tau": tau, "tau_full": tau_full, "cases": len(test)}
    rows = []
    for shape in ("overall", *SHAPES):
        part = [c for c in test if shape in ("overall", c[0])]
        precision, recall = precision_recall(part, tau)
        figures[shape] = {
            "precision": precision,
            "recall": recall,
            "right": sum(c[3] for c in part),
            "cases": len(part),
        }
        rows.append(
            [
                shape,
                f"{precision:.3f}",
                f"{recall:.3f}",
                str(len(part)),
                f"{sum(c[3] for c in part) / max(1, len(part)):.3f}",
            ]
        )
    if arguments.json:
        print(json.dumps(figures))
    else:
        print(f"tau {tau:.3f}, tau_full {tau_full:.3f}")
        print_table(["shape", "precision", "recall", "cases", "revisions right"], rows)


if __name__ == "__main__":
    main()
