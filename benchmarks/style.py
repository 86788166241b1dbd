"""Does a preference carry over? Six wishes about form on some questions, then unseen questions.

`python -m benchmarks.style [--json]`: for each wish (shorter, polite, capitals, reason) the simulated user asks six
questions on known facts, wishes for the form, and confirms the revision. Then 60 unseen questions on other known facts
are asked of the untouched and of the learning model: share in the wished form, mean words a reply, share right.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.asking import answers
from benchmarks.report import add_common_flags, print_table
from pocket import wordings as w
from pocket.evaluation import ask
from pocket.tasks import Task, open_task
from pocket.world import load_world
from services.app import AppServices, open_services
from services.settings import Settings

WISHES = 6
UNSEEN = 60
FORMS: dict[str, Callable[[str], bool]] = {
    "shorter": lambda reply: len(reply.split()) == 1,
    "polite": lambda reply: reply.startswith("Of course!"),
    "capitals": lambda reply: any(len(word) > 1 and word.isupper() for word in reply.rstrip(".").split()),
    "reason": lambda reply: ", because " in reply,
}


def questions(seed: int) -> tuple[list[Task], list[Task]]:
    """(to wish on, unseen): open questions on different known facts, in training wordings."""
    world, rng = load_world(), random.Random(seed)
    facts = rng.sample([f for f in world.facts if not f.half_known], WISHES * 4 + UNSEEN)
    tasks = [open_task(world, f, rng.choice(w.split(w.OPEN[f.relation], held_out=False))) for f in facts]
    return tasks[: WISHES * 4], tasks[WISHES * 4 :]


def measure(app: AppServices, tasks: Sequence[Task], form: str) -> dict[str, float]:
    replies = answers(app, [ask(t.question) for t in tasks])
    n = len(tasks)
    return {
        "in_form": sum(FORMS[form](r) for r in replies) / n,
        "words": sum(len(r.split()) for r in replies) / n,
        "right": sum(t.verdict(r) for t, r in zip(tasks, replies, strict=True)) / n,
    }


def study(model: str, form: str, seed: int, threads: int) -> dict[str, Any]:
    """One wish, on a data folder of its own."""
    to_wish, unseen = questions(seed)
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        app = open_services(
            Settings(model=model, data_folder=Path(folder), seed=seed, threads=threads), start_jobs=False
        )
        try:
            before = measure(app, unseen, form)
            granted, asked = 0, 0
            for task in to_wish:
                reply = list(app.chat.reply(app.chat.new_conversation().id, task.question))[-1]
                asked += 1
                if FORMS[form](reply.text):
                    continue  # already in the wished form
                revision = list(app.chat.revise(reply.id, rng.choice(w.STYLES[form])))[-1]
                if FORMS[form](revision.text) and task.verdict(revision.text):
                    app.feedback.better(revision.id)
                    app.learning.run_pending()
                    granted += 1
                if granted == WISHES:
                    break
            after = measure(app, unseen, form)
        finally:
            app.close()
    return {"wishes_granted": granted, "questions_asked": asked, "before": before, "after": after}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    figures = {form: study(arguments.model, form, arguments.seed, arguments.threads) for form in FORMS}
    if arguments.json:
        print(json.dumps(figures))
        return
    rows = []
    for form, f in figures.items():
        shown = [f"{f[when][what]:.2f}" for what in ("in_form", "words", "right") for when in ("before", "after")]
        rows.append([form, str(f["wishes_granted"]), *shown])
    print_table(["wish", "granted", "form before", "after", "words before", "after", "right before", "after"], rows)


if __name__ == "__main__":
    main()
