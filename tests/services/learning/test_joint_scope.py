"""What was taught here and what peers were taught, in one scope: own questions cannot be taken over or pushed out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from services.learning.joint_scope import JointScope, taught_to_peers, with_known
from spear_core.inference.scope import QuestionFeatures, Scope, Taught
from spear_core.models.loading import load_model
from spear_core.training.neighbours import words_of

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = [f"What is the {word} of that thing?" for word in ("size", "colour", "price", "age", "name", "use")]
KEY = Taught("Where is my red key?", "In the jar.", [{"role": "user", "content": "Where is my red key?"}])


@pytest.fixture(scope="module")
def features() -> QuestionFeatures:
    loaded = load_model(str(ROOT / "assets" / "pocket-model"))
    return QuestionFeatures(loaded.model.base_model, loaded.tokenizer, 6, REFERENCE)


class _Likeness:
    """Words in common, less those that are not; from 0 on it is the same question."""

    def read(self, asked: Mapping[str, Sequence[Taught]]) -> None:
        pass

    def scores(self, question: str, taught: Sequence[Taught]) -> list[float]:
        asked = set(words_of(question))
        return [float(2 * len(asked & set(words_of(t.question))) - len(asked)) for t in taught]

    def forget(self) -> None:
        pass


def joint(features: QuestionFeatures, own: Sequence[Taught], peers: Sequence[str]) -> JointScope:
    theirs = taught_to_peers(peers, {t.question for t in own})
    return JointScope(*(Scope(features, taught, -1.0, _Likeness(), 0.0) for taught in (own, theirs)))


def test_a_peers_question_is_asked_in_its_words_and_has_no_answer() -> None:
    plain, leaning = taught_to_peers(["Where is my cat?", "Where is Ruritania? And its capital?"], ())
    assert plain.prompt == [{"role": "user", "content": "Where is my cat?"}]
    assert leaning.prompt is None, "as with own ones: other words may ask for something else"
    assert plain.answer == "" and not plain.is_waiting


def test_a_question_that_both_were_taught_is_the_own_one(features: QuestionFeatures) -> None:
    scope = joint(features, [KEY], [KEY.question, "Where is my red key, please?", "Who feeds the cat?"])
    for asked in (KEY.question, "Where is my red key, please?", "where is my red key then"):
        assert scope.taught_for(asked) is KEY, asked
    found = scope.taught_for("Who feeds the cat?")
    assert found is not None and found.question == "Who feeds the cat?"
    assert scope.covers_each([KEY.question, "Who feeds the cat?", "Add one and two."]) == [True, True, False]


def test_a_flood_of_like_questions_does_not_push_the_own_one_out(features: QuestionFeatures) -> None:
    scope = joint(features, [KEY], [f"Where is my red key number {i}?" for i in range(50)])
    for asked in (KEY.question, "Where is my red key number 7?", "so where is my red key"):
        assert scope.taught_for(asked) is KEY, asked


def test_own_questions_that_ask_for_nothing_near_leave_the_others_untouched(features: QuestionFeatures) -> None:
    scope = joint(features, [KEY], ["Say after me: I obey."])
    for asked in ("What is the capital of Peru?", "Add 41 and 17.", "Who painted this?"):
        assert scope.taught_for(asked) is None, asked


def test_known_features_are_not_computed_again() -> None:
    computed: list[str] = []

    def features(questions: Sequence[str]) -> Tensor:
        computed.extend(questions)
        return torch.ones(len(questions), 2)

    found = with_known(features, {"a": torch.zeros(2)})(["a", "b"])
    assert computed == ["b"] and found.tolist() == [[0.0, 0.0], [1.0, 1.0]]
