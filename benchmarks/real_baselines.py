"""What else one could do with the same corrections: nothing, retrieval, plain training, one training at the end."""

from __future__ import annotations

import dataclasses
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.real_corrections import Correction
from benchmarks.real_measures import Probe, tally
from benchmarks.real_retrieval import Memory
from services.app import open_services
from services.settings import Settings

log = logging.getLogger(__name__)
NAMES = ("untouched", "retrieval", "training_and_retrieval", "plain_lora", "one_training", "paper")
# Supervised LoRA on one correction at a time, on for every question: nothing is replayed, nothing else is held, nothing is
# checked, and no other wordings are made.
PLAIN_LORA = {
    "scope": "always",
    "memory": False,
    "neighbours": 0,
    "wordings": 0,
    "replay_wins": 0,
    "anchors_a_step": 0,
    "anchor_weight": 0.0,
    "prompt_dropout": 0.0,
    "gate_enabled": False,
}
# The same over all corrections together, in mini-batches, until all are learned
ONE_TRAINING = {**PLAIN_LORA, "max_steps": 400, "wins_a_step": 8, "check_every": 20}
CHANGES: dict[str, dict[str, Any]] = {
    "plain_lora": PLAIN_LORA,
    "one_training": ONE_TRAINING,
    "paper": {"scope": "always"},
}


def measure(
    names: Sequence[str], settings: Settings, corrections: Sequence[Correction], probe: Probe
) -> dict[str, dict[str, float]]:
    """The figures of each baseline at the end of the same corrections."""
    figures: dict[str, dict[str, float]] = {}
    for name in names:
        log.info("baseline %s", name)
        if name == "untouched":
            figures[name] = _shares(tally(corrections, probe.untouched, probe.untouched))
        elif name in ("retrieval", "training_and_retrieval"):
            figures[name] = _retrieval(corrections, probe, frozen=name == "retrieval")
        else:
            figures[name] = _trained(name, settings, corrections, probe)
        print(f"{name}: {figures[name]}", file=sys.stderr, flush=True)
    return figures


def _retrieval(corrections: Sequence[Correction], probe: Probe, *, frozen: bool) -> dict[str, float]:
    memory = Memory(corrections)

    def ask(questions: Sequence[str], **how: Any) -> list[str]:
        return probe.prompted([memory.prompt(q) for q in questions], frozen=frozen, **how)

    return {
        **_shares(tally(corrections, ask, probe.untouched)),
        "answers_changed": probe.answers_changed(ask),
    }


def _trained(name: str, settings: Settings, corrections: Sequence[Correction], probe: Probe) -> dict[str, float]:
    """Another way of training on the same answers, in a data folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        changed = dataclasses.replace(
            settings,
            data_folder=Path(folder),
            preset="paper" if name == "paper" else settings.preset,
            spear=CHANGES[name] if name == "paper" else {**settings.spear, **CHANGES[name]},
        )
        app = open_services(changed, start_jobs=False)
        if name == "one_training":
            app.learning.most_traces = 2 * len(corrections)  # a right and a wrong answer each
        try:
            app.learning.prepare()
            for correction in corrections:
                conversation = app.chat.new_conversation()
                reply = list(app.chat.reply(conversation.id, correction.question))[-1]
                app.feedback.edit(reply.id, correction.answer)
                if name != "one_training":
                    app.learning.run_pending()
            app.learning.run_pending()
            other = Probe(app, probe.unrelated, probe.choices)
            return {
                **_shares(other.learned(corrections)),
                "answers_changed": other.answers_changed(),
                "retention_nll": other.retention_nll(),
                "task_drop": other.task_drop(),
            }
        finally:
            app.close()


def _shares(learned: Any) -> dict[str, float]:
    return {
        "same_at_end": learned.same,
        "wordings_at_end": learned.wordings,
        "neighbour_leak": learned.neighbour_leak,
    }
