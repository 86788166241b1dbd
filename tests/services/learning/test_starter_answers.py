"""The base model's own answers: brought along by the model's folder, and asked for where they are not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import services.learning.starter_answers
from services.learning.starter_answers import SHIPPED, Starter, starter_answers
from services.models.built_in import smollm2_weights
from spear_core.inference.rollout import answer_all
from tests.pocket_model import POCKET_MODEL
from tests.services.conftest import OpenBench
from tests.tiny_models import tiny_folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The last message of every prompt that a model was asked for answers to."""
    found: list[str] = []

    def noted(model: object, tokenizer: object, prompts: list, **rest: object) -> list[str]:
        found.extend(prompt[-1]["content"] for prompt in prompts)
        return answer_all(model, tokenizer, prompts, **rest)

    monkeypatch.setattr(services.learning.starter_answers, "answer_all", noted)
    return found


def test_the_pocket_model_brings_its_own_answers(open_app: OpenBench, asked: list[str]) -> None:
    app = open_app()
    starter = starter_answers(app.engine)
    assert not asked
    assert len(starter.anchors) == len(app.engine.loaded.settings.anchor_prompts)
    some = [*starter.anchors[::60], *starter.revisions[::30], *starter.probes[::40]]
    assert len(some) > 8
    said = answer_all(
        app.engine.shared_models.base,
        app.engine.loaded.tokenizer,
        [messages for messages, _ in some],
        context_tokens=app.engine.loaded.context_tokens,
        max_new_tokens=app.engine.max_new_tokens,
    )
    # a batch of others may decide a near-tie of two words in another way
    assert sum(now == then for now, (_, then) in zip(said, some, strict=True)) >= 0.9 * len(some)


def test_answers_of_other_weights_do_not_count(open_app: OpenBench, asked: list[str], tmp_path: Path) -> None:
    folder = tiny_folder("llama3", tmp_path / "other")
    shutil.copy(POCKET_MODEL / SHIPPED, folder / SHIPPED)
    app = open_app(model=str(folder))
    fresh: Starter = starter_answers(app.engine)
    assert len(asked) == len(fresh.anchors) + len(fresh.probes) + len(fresh.revisions)
    asked.clear()
    assert starter_answers(app.engine) == fresh and not asked, "asked once a data folder"


def test_damaged_answers_are_asked_for_again(open_app: OpenBench, asked: list[str], tmp_path: Path) -> None:
    folder = tiny_folder("llama3", tmp_path / "other")
    app = open_app(model=str(folder))
    for damaged in ("", "[1]", "{", '{"base": 1}', json.dumps({"base": app.engine.base, "answers": ["x"]})):
        (folder / SHIPPED).write_text(damaged, encoding="utf-8")
        assert starter_answers(app.engine).anchors
    assert asked


@pytest.mark.slow
@pytest.mark.skipif(smollm2_weights() is None, reason="the default model's package is not installed")
def test_the_default_model_brings_its_own_answers_for_every_prompt(open_app: OpenBench, asked: list[str]) -> None:
    """Where the wording of the revision request changed: `python app.py data starter --model smollm2`."""
    app = open_app(model="smollm2")
    starter = starter_answers(app.engine)
    assert not asked, "a fresh data folder would compute for minutes"
    settings = app.engine.loaded.settings
    assert len(starter.anchors) == len(settings.anchor_prompts) > 150
    assert {starter.kinds[messages[-1]["content"]] for messages, _ in starter.probes} == set(starter.kinds.values())
    few = starter.anchors[::20]
    said = answer_all(
        app.engine.shared_models.base,
        app.engine.loaded.tokenizer,
        [messages for messages, _ in few],
        context_tokens=app.engine.loaded.context_tokens,
        max_new_tokens=8,
    )
    # in bfloat16 a batch of others may decide a near-tie of two words in another way
    assert sum(then.startswith(now) for now, (_, then) in zip(said, few, strict=True)) >= 0.6 * len(few)
