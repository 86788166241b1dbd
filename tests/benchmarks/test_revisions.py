"""The benchmark of revisions: its hints state the answer, its figures count what they say."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from benchmarks import revisions as bench
from spear_core.inference.hints import HintKind, read_hint


def done(kind: str, revision: str, target: str = "Oslo", refused: str = "Bergen.") -> bench.Done:
    return bench.Done(bench.Case(kind, "What?", refused, "hint", target), revision, "bare", 1.0, 2.0)


def test_an_answer_is_right_as_the_metrics_say() -> None:
    assert bench.contains("It is the Trumpet-Major!", "'THE TRUMPETMAJOR'")
    assert not bench.contains("It is Bergen.", "Oslo") and not bench.contains("anything", "...")
    assert not done("full", "It was in 2011.", "11").is_right, "whole words"


@pytest.mark.parametrize("number", range(24))
def test_every_hint_holds_the_target_and_half_are_typed(number: int) -> None:
    kind, hint = bench.hint_for(number, "What is the capital?", "It is Bergen.", "Oslo", random.Random(number))
    assert kind == ("full" if number % 2 == 0 else "typed") and "oslo" in hint.lower()


def test_hints_that_state_nothing_are_read_as_such() -> None:
    assert {read_hint(hint).kind for hint in bench.OBJECTING} == {HintKind.OBJECTS}
    assert {read_hint(hint).kind for hint in bench.ASKING} == {HintKind.ASKS}


def test_the_success_is_the_share_of_right_revisions_and_the_bar_is_on_drawn_questions_alone() -> None:
    found = bench.figures(
        [done("full", "Oslo."), done("typed", "Bergen"), done("fresh", "Oslo."), done("asking", "x", "")]
    )
    assert found["stating"]["revision_success"] == 0.5 and found["fresh"]["revision_success"] == 1.0
    assert found["stating"]["repeats"] == 1 and "revision_success" not in found["asking"]
    assert found["bar_met"] is False


def test_the_personal_questions_are_forty_different_ones_whose_hints_state_the_answer() -> None:
    items = json.loads(bench.FRESH.read_text(encoding="utf-8"))
    assert len({item["question"] for item in items}) == 40
    for item in items:
        assert bench.contains(item["hint"], item["target"]), item


def test_the_command_measures_what_it_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = [{"prompt": f"What kind of thing is thing {i}?", "target": "zebra"} for i in range(6)]
    (tmp_path / "data.json").write_text(json.dumps(data))
    bench.main(["--data", str(tmp_path / "data.json"), "--questions", "4", "--tuned-on", "2", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["stating"]["cases"] == 4 and set(found["stating"]["sources"]) == {"request"}  # the pocket model
