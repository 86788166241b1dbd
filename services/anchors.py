"""What must not change: the model's own unobjected answers, as KL anchors and as the gate's probes. Built once a base."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from services.conversation import prompt_up_to
from services.engine import Engine
from spear_core.gate import is_degenerate
from spear_core.rollout import answer_all
from spear_core.traces import Encoded, Messages
from spear_core.trainer import Anchors

log = logging.getLogger(__name__)


def _ask(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def _starter_answers(engine: Engine) -> dict[str, str]:
    """The base model's greedy answers to the starter prompts; kept in the data folder after the first time."""
    settings = engine.loaded.settings
    prompts = [*settings.anchor_prompts, *settings.probe_prompts]
    file = engine.data_folder / "models" / f"{engine.base}.starter.json"
    known: dict[str, str] = {}
    if file.exists():
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            log.warning("the kept answers in %s are damaged; asking the base model again", file.name)
    missing = [p for p in dict.fromkeys(prompts) if p not in known]
    if missing:
        answers = answer_all(
            engine.twins.base,
            engine.loaded.tokenizer,
            [_ask(p) for p in missing],
            context_tokens=engine.loaded.context_tokens,
            max_new_tokens=engine.max_new_tokens,
        )
        known.update(zip(missing, answers, strict=True))
        file.parent.mkdir(parents=True, exist_ok=True)
        _write(file, json.dumps(known, indent=0))
    return known


def _write(file: Path, text: str) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def _encoded(engine: Engine, pairs: list[tuple[Messages, str]]) -> list[Encoded]:
    return [engine.encoder.plain(prompt, answer) for prompt, answer in pairs if not is_degenerate(answer)]


def build_probes(engine: Engine) -> Anchors:
    """The gate's probes: never trained on, neither as anchors nor as replay."""
    answers = _starter_answers(engine)
    return Anchors(_encoded(engine, [(_ask(p), answers[p]) for p in engine.loaded.settings.probe_prompts]))


def build_anchors(engine: Engine, seed: int, before_utc: str | None = None) -> list[Encoded]:
    """Up to `anchor_pool` anchors: what the base model said in past chats and nobody objected to (before a time,
    where one is given), then the starter answers."""
    answers = _starter_answers(engine)
    settings = engine.loaded.settings
    probes = set(settings.probe_prompts)
    pool = engine.config.anchor_pool
    said: list[tuple[Messages, str]] = []
    for question, reply in engine.store.unobjected_replies(pool // 2, seed, before_utc):
        if question.text not in probes:
            said.append((prompt_up_to([question], question.id), reply.text))
    said += [(_ask(p), answers[p]) for p in settings.anchor_prompts]
    return _encoded(engine, said[:pool])
