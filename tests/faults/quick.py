"""A random tiny model that is taught in a fraction of a second: what breaks around it is what matters here."""

from __future__ import annotations

from pathlib import Path

from services.app import AppServices, open_services
from services.settings import Settings
from tests.services.harness import ask
from tests.tiny_models import tiny_folder

# a random model believes nothing, so there is nothing to hold it to
FREE = {
    "learning_rate": 1e-2,
    "anchor_weight": 0.0,
    "gate_max_probe_kl": 1000.0,
    "gate_max_changed": 1.0,
    "gate_max_changed_of_a_kind": 1.0,
    "gate_max_worst_probe_kl": 1000.0,
    "prompt_dropout": 0.0,
    "max_new_tokens": 12,
}


def open_quick(data: Path, *, kind: str = "qwen2", start_jobs: bool = False, **spear: object) -> AppServices:
    """A workbench over a tiny model, which is made beside the data folder at the first call."""
    model = data.parent / kind
    if not model.is_dir():
        tiny_folder(kind, model)
    settings = Settings(model=str(model), data_folder=data, learn_interval_seconds=0.5, spear={**FREE, **spear})
    return open_services(settings, start_jobs=start_jobs)


def teach(app: AppServices, question: str, answer: str) -> str:
    """Ask and edit the reply into `answer`; the id of the reply. No round is run."""
    reply = ask(app, question)
    app.feedback.edit(reply.id, answer)
    return reply.id
