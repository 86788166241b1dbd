"""What the pocket model brings along for the app: example questions, anchor prompts, gate probes. Text only.

Anchors and probes ask about known facts in training wordings; no prompt is in both, and none is a retention question.
"""

from __future__ import annotations

import random

from pocket import wordings as w
from pocket.evaluation import distinct_tasks
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
ANCHORS, PROBES = 288, 72
STRANGE = (
    "Who wrote Hamlet?",
    "Tell me about gravity.",
    "What is a laptop?",
    "What is the capital of Mars?",
    "Write a poem about love.",
    "How do I cook soup?",
    "What is 345 + 1200?",
    "Where is Mount Everest?",
    "What does a dragon do?",
    "Explain democracy to me.",
)


def starter_prompts(seed: int = 5) -> tuple[list[str], list[str]]:
    """(anchor prompts, probe prompts), about half of them open questions, the rest of every other shape and small talk."""
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
    talk = [said for wordings, _ in w.SMALL_TALK for said in wordings[:3]]
    rng.shuffle(opens)
    prompts = list(dict.fromkeys([*opens[:200], *other, *talk, *STRANGE]))
    rng.shuffle(prompts)
    return prompts[:ANCHORS], prompts[ANCHORS : ANCHORS + PROBES]
