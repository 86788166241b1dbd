"""What the pocket model brings along for the app: how it revises, example questions, anchor prompts, gate probes.

`python -m pocket.starter FOLDER` writes them again into a model folder (spear.json); the weights stay as they are.
Anchors and probes ask about known facts in training wordings; no prompt is in both, and none is a retention question.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from pocket import wordings as w
from pocket.corpus import REVISE_WITH_HINT, REVISE_WITHOUT_HINT
from pocket.evaluation import distinct_tasks
from pocket.hints import best_clue
from pocket.outside import ASKED
from pocket.world import load_world

EXAMPLES = (
    "What kind of thing is an owl?",
    "What is the capital of France?",
    "What colour is the sky?",
    "What does a dog do?",
    "What is 27 + 35?",
    "Are iron and copper the same kind of thing?",
    "Which is a hammer: metal, tool, fruit or bird?",
    "What can you do?",
)
ANCHORS, PROBES, REVISIONS = 288, 96, 120


def starter_prompts(seed: int = 5) -> tuple[list[str], list[str]]:
    """(anchor prompts, probe prompts): 40 % open questions, the rest other shapes, small talk, and the world outside."""
    rng = random.Random(seed)
    opens: list[str] = []
    for fact in load_world().facts:
        if not fact.half_known:
            pair = rng.sample(w.split(w.OPEN[fact.relation], held_out=False), 2)
            opens += [w.fill(wording, x=fact.phrase) for wording in pair]
    other = [
        task.question
        for shape in ("choice", "sum", "yesno")
        for task in distinct_tasks(shape, 45, seed, half_known=False, held_out=False)
    ]
    talk = [said for wordings, _ in w.SMALL_TALK for said in wordings[:-1]]
    rng.shuffle(opens)
    rest = list(dict.fromkeys([*other, *talk, *ASKED]))
    prompts = [*rest, *opens[: ANCHORS + PROBES - len(rest)]]
    rng.shuffle(prompts)
    return prompts[:ANCHORS], prompts[ANCHORS:]


def starter_revisions(seed: int = 6) -> list[list[str]]:
    """[question, hint] pairs on half-known facts: partial hints at a random answer, not at the true one."""
    world, rng = load_world(), random.Random(seed)
    pairs: list[list[str]] = []
    for shape, share in (("open", 0.5), ("choice", 0.3), ("yesno", 0.2)):
        for task in distinct_tasks(shape, round(share * REVISIONS), seed, half_known=True, held_out=False):
            meant = rng.choice(task.options or world.candidates[task.facts[0].relation])
            if shape == "yesno":
                hint = w.statement(rng.choice(task.facts), meant)
            else:
                hint = best_clue(task.candidates, meant, [], set(), rng, among=task.options or None).words(rng)
            pairs.append([task.question, hint])
    return pairs


def write_settings(folder: Path) -> None:
    """The model folder's spear.json."""
    anchors, probes = starter_prompts()
    settings = {
        "revise_with_hint": REVISE_WITH_HINT,
        "revise_without_hint": REVISE_WITHOUT_HINT,
        "revise_by_request_only": True,
        "max_new_tokens": 64,
        "sampling": {"temperature": 0.0, "no_repeat_ngram": 0},
        "examples": list(EXAMPLES),
        "anchor_prompts": anchors,
        "anchor_revisions": starter_revisions(),
        "probe_prompts": probes,
    }
    (folder / "spear.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_settings(Path(sys.argv[1]))
