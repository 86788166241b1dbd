"""What the correction classifier is fitted on, and how its threshold is chosen."""

from __future__ import annotations

import pytest
import torch

from experiments.correction_classifier import (
    EVALUATION,
    TUNED_ON,
    held_out_odds,
    read_moments,
    threshold,
    training_moments,
)
from experiments.ranking import auc
from spear_core.inference.corrections import FollowUp, Sign
from spear_core.inference.hint_words import plain_words
from spear_core.training.neighbours import question_key


def test_no_question_or_message_of_an_evaluation_is_fitted_on() -> None:
    moments = training_moments()
    assert len(moments) > 1000 and 0.4 < sum(m.is_correction for m in moments) / len(moments) < 0.6
    asked = {question_key(m.follow_up.question) for m in moments}
    evaluated = [m for split in ("test", "life") for m in read_moments(TUNED_ON, split=split)]
    assert len(evaluated) == 220
    assert not asked & ({question_key(m.follow_up.question) for m in evaluated} - {""})
    unrelated = (EVALUATION / "unrelated_questions.txt").read_text().splitlines()
    assert not asked & ({question_key(line) for line in unrelated} - {""})
    said = {tuple(plain_words(m.follow_up.message)) for m in evaluated}
    assert not said & {tuple(plain_words(m.follow_up.message)) for m in moments}


def test_the_threshold_is_the_lowest_with_the_precision_asked_for() -> None:
    odds, truth = [3.0, 2.0, 1.0, 0.0, -1.0], [True, True, False, True, False]
    assert threshold(odds, truth, 1.0) == (2.0, pytest.approx(2 / 3))
    assert threshold(odds, truth, 0.75) == (0.0, 1.0)
    assert threshold([1.0], [False], 0.5) == (float("inf"), 0.0)


def test_auc_is_the_share_of_pairs_in_order() -> None:
    assert auc([1.0, 2.0, 3.0, 4.0], [False, False, True, True]) == 1.0
    assert auc([1.0, 2.0, 3.0, 4.0], [False, True, False, True]) == 0.75


def test_a_moment_is_judged_by_what_was_fitted_without_its_question() -> None:
    """Each question has a feature of its own: seen in training, it would tell the answer."""
    moments = [
        type(m)(FollowUp(f"question {i}", "reply", "message"), i % 2 == 0)
        for i, m in enumerate(read_moments(TUNED_ON, split="tune")[:40])
    ]
    states = list(torch.eye(40))
    odds = held_out_odds(moments, states, [Sign.NONE] * 40, 0.001)
    right = sum((o > 0) == m.is_correction for o, m in zip(odds, moments, strict=True))
    assert right <= 25, "no better than chance"
