"""Which questions are near to what was taught: the features, and the threshold."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from spear_core.inference.scope import RIDGE, QuestionFeatures, Scope, whitening
from spear_core.models.loading import load_model

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = [f"What is the {word} of that thing?" for word in ("size", "colour", "price", "age", "name", "use")]


@pytest.fixture(scope="module")
def features() -> QuestionFeatures:
    loaded = load_model(str(ROOT / "assets" / "pocket-model"))
    return QuestionFeatures(loaded.model.base_model, loaded.tokenizer, 6, REFERENCE)


def test_whitening_evens_out_what_varies_much_and_what_varies_little() -> None:
    # variances 4 and 0 -> mean eigenvalue 2 -> scaled 2 and 0 -> factors (2 + .1)^-.5 and (0 + .1)^-.5
    states = torch.tensor([[3.0, 5.0], [-1.0, 5.0]])
    mean, root = whitening(states)
    assert torch.allclose(mean, torch.tensor([1.0, 5.0]))
    wanted = torch.diag(torch.tensor([1 / math.sqrt(2 + RIDGE), 1 / math.sqrt(RIDGE)]))
    assert torch.allclose(root, wanted, atol=1e-5)


def test_features_have_unit_length_and_do_not_depend_on_what_else_is_asked(features: QuestionFeatures) -> None:
    both = features(["What is the capital of Peru?", "Who painted this?"])
    assert torch.allclose(both.norm(dim=-1), torch.ones(2), atol=1e-5)
    assert torch.allclose(both[1], features(["Who painted this?"])[0], atol=1e-6)


def test_a_taught_question_is_in_scope_and_nothing_is_where_nothing_was_taught(features: QuestionFeatures) -> None:
    taught = "What is the capital of Peru?"
    scope = Scope(features, [taught, "Who painted this?"], 0.9)
    assert scope.nearest(taught) == pytest.approx(1.0, abs=1e-4)
    assert scope.covers(taught)
    assert not scope.covers("Add nine to seven and tell me the sum, please.")
    assert Scope(features, [], 0.9).nearest(taught) == -1.0


def test_nearer_wordings_are_more_similar(features: QuestionFeatures) -> None:
    scope = Scope(features, ["What is the capital of Peru?"], 0.5)
    assert scope.nearest("Which city is the capital of Peru?") > scope.nearest("How do I boil an egg?")


def test_an_empty_question_has_features(features: QuestionFeatures) -> None:
    assert torch.isfinite(features([""])).all()


def test_reference_questions_are_needed() -> None:
    loaded = load_model(str(ROOT / "assets" / "pocket-model"))
    with pytest.raises(ValueError, match="no reference questions"):
        QuestionFeatures(loaded.model.base_model, loaded.tokenizer, 6, [])
