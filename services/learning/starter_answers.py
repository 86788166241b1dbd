"""The base model's answers to the starter prompts, and its revisions of them; computed once for each base model.

A model folder may contain them (SHIPPED, written by `app.py data starter`); then nothing is computed. The file is a JSON
object:

- `base`: the fingerprint of the model that gave the answers; answers of other weights are not used;
- `revise_with_hint`: the wording of the request for a revision; revisions made with another wording are not used;
- `answers`: prompt -> greedy answer; the key of a revision is the prompt, a line end and the hint;
- `cut`: keys of the answers that were cut off at ANSWER_TOKENS tokens.

Prompts and their kinds are in `spear.json` beside it (spear_core/models/settings.py).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from services.engine import Engine
from spear_core.inference.rollout import answer_all
from spear_core.models.prompts import encode_completion, revision_messages
from spear_core.training.traces import Messages

log = logging.getLogger(__name__)
SHIPPED = "starter.json"
ANSWER_TOKENS = 128  # an anchor counts at each of its tokens, so longer answers cost time and add little


@dataclass(frozen=True)
class Starter:
    """Starter prompts with the base model's greedy answers.

    Attributes:
        anchors: for training.
        revisions: prompts with a hint in them, for training.
        probes: for the gate.
        kinds: question -> its kind, where the model's settings name kinds.
        cut: questions whose answer was cut off.
    """

    anchors: list[tuple[Messages, str]]
    revisions: list[tuple[Messages, str]]
    probes: list[tuple[Messages, str]]
    kinds: Mapping[str, str] = field(default_factory=dict)
    cut: frozenset[str] = frozenset()


def question(text: str) -> list[dict[str, str]]:
    """A prompt of one user message."""
    return [{"role": "user", "content": text}]


def starter_answers(engine: Engine) -> Starter:
    """The starter answers from the model's folder or the data folder; missing ones are computed and kept there."""
    settings = engine.loaded.settings
    file = kept_file(engine.data_folder, engine.base)
    known = _known(engine)
    before = len(known)
    plain = [*settings.anchor_prompts, *settings.probe_prompts, *(prompt for prompt, _ in settings.anchor_revisions)]
    _ask_missing(engine, known, {p: question(p) for p in plain})
    hinted = {
        f"{prompt}\n{hint}": revision_messages(question(prompt), [(known[prompt], hint)], settings)
        for prompt, hint in settings.anchor_revisions
    }
    _ask_missing(engine, known, hinted)
    if len(known) > before:
        _write(file, _as_json(engine, known))
    return Starter(
        [(question(p), known[p]) for p in settings.anchor_prompts],
        [(messages, known[key]) for key, messages in hinted.items()],
        [(question(p), known[p]) for p in settings.probe_prompts],
        settings.prompt_kinds,
        frozenset(key for key in plain if _is_cut(engine, known[key])),
    )


def kept_file(data_folder: Path, base: str) -> Path:
    """The file in the data folder for the answers of a base model; `base` is its fingerprint."""
    return data_folder / "models" / f"{base}.starter.json"


def ship_starter_answers(engine: Engine, folder: Path) -> int:
    """Write the answers into the model's folder. Returns their number. Raises OSError."""
    starter_answers(engine)
    settings = engine.loaded.settings
    wanted = {*settings.anchor_prompts, *settings.probe_prompts}
    for prompt, hint in settings.anchor_revisions:
        wanted |= {prompt, f"{prompt}\n{hint}"}
    answers = {key: answer for key, answer in _known(engine).items() if key in wanted}
    _write(folder / SHIPPED, _as_json(engine, answers))
    return len(answers)


def _known(engine: Engine) -> dict[str, str]:
    """The answers in the model's folder and the data folder that were given by these weights."""
    known: dict[str, str] = {}
    for file in (Path(engine.loaded.name) / SHIPPED, kept_file(engine.data_folder, engine.base)):
        found = _read(file)
        answers = found.get("answers")
        if isinstance(answers, dict) and found.get("base") == engine.base:
            same_wording = found.get("revise_with_hint") == engine.loaded.settings.revise_with_hint
            known |= {key: answer for key, answer in answers.items() if same_wording or "\n" not in key}
    return known


def _as_json(engine: Engine, answers: Mapping[str, str]) -> str:
    told = {
        "base": engine.base,
        "revise_with_hint": engine.loaded.settings.revise_with_hint,
        "answers": answers,
        "cut": [key for key, answer in answers.items() if _is_cut(engine, answer)],
    }
    return json.dumps(told, indent=0, ensure_ascii=False) + "\n"


def _is_cut(engine: Engine, answer: str) -> bool:
    """Whether the answer reached the limit of tokens without an end token."""
    return _tokens(engine.loaded.tokenizer, answer) >= min(ANSWER_TOKENS, engine.max_new_tokens)


@lru_cache(maxsize=2048)  # several times the answers of one model; every round asks for all of them
def _tokens(tokenizer: PreTrainedTokenizerBase, answer: str) -> int:
    return len(encode_completion(tokenizer, answer)) - 1


def _ask_missing(engine: Engine, known: dict[str, str], prompts: Mapping[str, Messages]) -> None:
    missing = {key: messages for key, messages in prompts.items() if key not in known}
    if missing:
        answers = answer_all(
            engine.shared_models.base,
            engine.loaded.tokenizer,
            list(missing.values()),
            context_tokens=engine.loaded.context_tokens,
            max_new_tokens=min(ANSWER_TOKENS, engine.max_new_tokens),
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
