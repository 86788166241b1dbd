"""The base model's own answers to the starter prompts, and its revisions of them. Asked for once a base model.

A model folder may bring them along (SHIPPED, made by `app.py data starter`): then nothing needs to be asked.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.engine import Engine
from spear_core.inference.rollout import answer_all
from spear_core.models.prompts import revision_messages
from spear_core.training.traces import Messages

log = logging.getLogger(__name__)
SHIPPED = "starter.json"


@dataclass(frozen=True)
class Starter:
    """(prompt, the base model's greedy answer), for anchors, for anchors with a hint in them, and for the gate's probes."""

    anchors: list[tuple[Messages, str]]
    revisions: list[tuple[Messages, str]]
    probes: list[tuple[Messages, str]]


def question(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def starter_answers(engine: Engine) -> Starter:
    """From the model's folder, or kept in the data folder after the first time; only what neither knows is asked for."""
    settings = engine.loaded.settings
    file = kept_file(engine.data_folder, engine.base)
    known = {**_shipped(engine), **_read(file)}
    before = len(known)
    plain = [*settings.anchor_prompts, *settings.probe_prompts, *(prompt for prompt, _ in settings.anchor_revisions)]
    _ask_missing(engine, known, {p: question(p) for p in plain})
    hinted = {
        f"{prompt}\n{hint}": revision_messages(question(prompt), [(known[prompt], hint)], settings)
        for prompt, hint in settings.anchor_revisions
    }
    _ask_missing(engine, known, hinted)
    if len(known) > before:
        _write(file, json.dumps(known, indent=0))
    return Starter(
        [(question(p), known[p]) for p in settings.anchor_prompts],
        [(messages, known[key]) for key, messages in hinted.items()],
        [(question(p), known[p]) for p in settings.probe_prompts],
    )


def kept_file(data_folder: Path, base: str) -> Path:
    return data_folder / "models" / f"{base}.starter.json"


def ship_starter_answers(engine: Engine, folder: Path) -> int:
    """Write the answers into the model's folder; returns how many. Raises OSError."""
    starter_answers(engine)
    answers = {**_shipped(engine), **_read(kept_file(engine.data_folder, engine.base))}
    _write(folder / SHIPPED, json.dumps({"base": engine.base, "answers": answers}, indent=0))
    return len(answers)


def _shipped(engine: Engine) -> dict[str, str]:
    """What the model's folder brings along; nothing where it is of other weights."""
    found = _read(Path(engine.loaded.name) / SHIPPED)
    answers = found.get("answers")
    return answers if isinstance(answers, dict) and found.get("base") == engine.base else {}


def _ask_missing(engine: Engine, known: dict[str, str], prompts: Mapping[str, Messages]) -> None:
    missing = {key: messages for key, messages in prompts.items() if key not in known}
    if missing:
        answers = answer_all(
            engine.shared_models.base,
            engine.loaded.tokenizer,
            list(missing.values()),
            context_tokens=engine.loaded.context_tokens,
            max_new_tokens=engine.max_new_tokens,
            priority=engine.priority.give_way,
        )
        known.update(zip(missing, answers, strict=True))


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        log.warning("the kept answers in %s are damaged; asking the base model again", file.name)
        return {}


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)
