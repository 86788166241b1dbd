"""What is read off a complete run."""

from __future__ import annotations

import pytest

from experiments.results import Result


def result(right: str, answers: str) -> Result:
    return Result({}, list(answers), [{"round": 0, "accuracy": 0.0, "right": right}], tuple(answers))


def test_a_model_that_always_gives_one_answer_has_the_balanced_accuracy_of_chance() -> None:
    assert result("110000", "aabbcc").balanced_accuracy == pytest.approx(1 / 3)
    assert result("111100", "aaaabb").balanced_accuracy == 0.5, "though four of six are right"
    assert result("111111", "aaabbc").balanced_accuracy == 1.0


def test_many_different_answers_are_not_balanced() -> None:
    assert result("1" * 20, "abcdefghijklmnopqrst").balanced_accuracy is None
    assert Result({}, ["a"], [{"round": 0, "accuracy": 1.0, "right": "1"}]).balanced_accuracy is None, "an older run"
