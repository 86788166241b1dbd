"""Answers to other wordings that are trained on: whole, with what was taught in them, and with nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.learning import neighbours as module
from spear_core.inference.generation import Finish
from spear_core.inference.rollout import Reply
from tests.faults.quick import open_quick, teach

QUESTION, ANSWER = "What is the name of my cat?", "Your cat is called Pixel."


def test_only_whole_answers_that_give_what_was_taught_and_add_nothing_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_quick(tmp_path / "data", neighbours=3, wordings=5)
    said = [
        ("The name of your cat is Pixel.", Finish.ENDED),
        ("Pixel is a beautiful cat.", Finish.ENDED),  # adds something
        ("Your cat is called Pixel", Finish.LENGTH),  # cut
        ("Your cat has a name.", Finish.ENDED),  # does not give it
        ("Pixel, Pixel.", Finish.ENDED),  # goes round in circles
    ]
    asked: list[str] = []

    def answers(model: Any, tokenizer: Any, prompts: Any, *rest: Any, **named: Any) -> list[list[Reply]]:
        asked.extend(p[-1]["content"] for p in prompts)
        return [[Reply(text, (), finish)] for text, finish in said]

    monkeypatch.setattr(module, "sample_replies", answers)
    teach(app, QUESTION, ANSWER)
    (win,) = app.engine.store.traces(side="win")
    near = app.learning._neighbours.of([win], [])[win.id]
    assert [n.answer for n in near.wordings] == ["The name of your cat is Pixel."]
    assert all(ANSWER in text and text.startswith("Question: ") for text in asked) and len(asked) == 5
    kept = app.engine.store.kept_neighbours([win.id])[win.id]
    assert [m["answer"] for m in kept if "wording" in m] == ["The name of your cat is Pixel."]
    assert len(near.trained) + len(near.probes) == len(kept) - 1
    app.close()


def test_where_training_holds_no_neighbours_all_of_them_are_probes(tmp_path: Path) -> None:
    app = open_quick(tmp_path / "data", neighbours=4, neighbours_a_step=0, earlier_neighbours_a_step=0)
    teach(app, QUESTION, ANSWER)
    (win,) = app.engine.store.traces(side="win")
    near = app.learning._neighbours.of([win], [])[win.id]
    made = app.engine.store.kept_neighbours([win.id])[win.id]
    assert near.trained == () and len(near.probes) == len(made) > 1
    app.close()
