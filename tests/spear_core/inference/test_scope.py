"""Which questions are near to what was taught: the features, and the threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from spear_core.inference.scope import RIDGE, QuestionFeatures, Scope, SubjectTest, Taught, whiten
from spear_core.models.loading import load_model
from spear_core.training.neighbours import words_of

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = [f"What is the {word} of that thing?" for word in ("size", "colour", "price", "age", "name", "use")]


@pytest.fixture(scope="module")
def features() -> QuestionFeatures:
    loaded = load_model(str(ROOT / "assets" / "pocket-model"))
    return QuestionFeatures(loaded.model.base_model, loaded.tokenizer, 6, REFERENCE)


def test_whitening_evens_out_what_varies_much_and_what_varies_little() -> None:
    # variances 4 and 0 -> mean eigenvalue 2 -> scaled 2 and 0 -> factors (2 + .1)^-.5 and (0 + .1)^-.5
    states = torch.tensor([[3.0, 5.0], [-1.0, 5.0]])
    mean, root = whiten(states)
    assert torch.allclose(mean, torch.tensor([1.0, 5.0]))
    wanted = torch.diag(torch.tensor([1 / math.sqrt(2 + RIDGE), 1 / math.sqrt(RIDGE)]))
    assert torch.allclose(root, wanted, atol=1e-5)


def test_features_have_unit_length_and_do_not_depend_on_what_else_is_asked(features: QuestionFeatures) -> None:
    both = features(["What is the capital of Peru?", "Who painted this?"])
    assert torch.allclose(both.norm(dim=-1), torch.ones(2), atol=1e-5)
    assert torch.allclose(both[1], features(["Who painted this?"])[0], atol=1e-6)


def test_a_taught_question_is_in_scope_and_nothing_is_where_nothing_was_taught(features: QuestionFeatures) -> None:
    taught = "What is the capital of Peru?"
    scope = Scope(features, [Taught(taught, "Lima."), Taught("Who painted this?", "I did.")], 0.9)
    assert scope.covers(taught)
    assert not scope.covers("Add nine to seven and tell me the sum, please.")
    assert not Scope(features, [], 0.9).covers(taught)


def test_nearer_wordings_are_more_similar(features: QuestionFeatures) -> None:
    taught, near, far = features(
        ["What is the capital of Peru?", "Which city is the capital of Peru?", "How do I boil an egg?"]
    )
    assert taught @ near > taught @ far


def test_an_empty_question_has_features(features: QuestionFeatures) -> None:
    assert torch.isfinite(features([""])).all()


def test_reference_questions_are_needed() -> None:
    loaded = load_model(str(ROOT / "assets" / "pocket-model"))
    with pytest.raises(ValueError, match="no reference questions"):
        QuestionFeatures(loaded.model.base_model, loaded.tokenizer, 6, [])


class _Subject(SubjectTest):
    """Gains from a table."""

    def __init__(self, gains: dict[str, float]) -> None:
        self.gains = gains

    def gain(self, question: str, taught: Taught) -> float:
        return self.gains[question]


def test_a_near_question_about_another_thing_is_out_of_scope(features: QuestionFeatures) -> None:
    taught = Taught("What is the capital of Peru?", "Lima.")
    subject = _Subject({"What is the capital of Chile?": -4.0, "Which city is the capital of Peru?": 1.0})
    scope = Scope(features, [taught], -1.0, subject, 0.0)
    assert scope.covers("Which city is the capital of Peru?")
    assert not scope.covers("What is the capital of Chile?")
    assert scope.covers(taught.question), "the taught question itself needs no test"


def test_words_that_the_taught_question_has_gain_more_than_words_it_does_not_have() -> None:
    loaded = load_model(str(ROOT / "assets" / "pocket-model"))
    subject = SubjectTest(loaded.model, loaded.tokenizer)
    taught = Taught("What is the capital of Peru?", "The capital of Peru is Lima.")
    logps = subject._logps("", taught.question)
    assert logps.shape[0] > 0 and bool((logps <= 0).all())
    assert subject.gain("of it?", taught) == float("inf")
    assert subject.gain(taught.question, taught) == subject.gain(taught.question, taught)


def test_the_gain_is_the_mean_over_the_content_words(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(str(ROOT / "assets" / "pocket-model"))
    subject = SubjectTest(loaded.model, loaded.tokenizer)
    question = "capital Peru"
    first = len(subject._tokenizer.encode("capital", add_special_tokens=False))
    count = len(subject._logps("", question))
    gains = torch.tensor([0.5] * first + [-0.25] * (count - first))

    def logps(context: str, asked: str) -> torch.Tensor:
        return gains if context.startswith("answer") else torch.zeros(count)

    monkeypatch.setattr(subject, "_logps", logps)
    # "capital" gains .5 a token; "Peru" loses .25 a token
    wanted = (0.5 * first - 0.25 * (count - first)) / 2
    assert subject.gain(question, Taught("question", "answer")) == pytest.approx(wanted)


def test_what_is_nearer_to_a_question_known_to_be_another_is_out_of_scope(features: QuestionFeatures) -> None:
    taught = Taught("What is the capital of Peru?", "Lima.", apart=("What is the capital of Chile?",))
    scope = Scope(features, [taught], -1.0, _Likeness(), 0.0)
    assert scope.covers("Which city is Peru's capital?")
    assert not scope.covers("Tell me the capital of Chile.")
    assert Scope(features, [Taught(taught.question, "Lima.")], -1.0, _Likeness(), 0.0).covers(
        "Tell me the capital of Chile."
    )


def test_of_several_taught_questions_the_likeliest_is_found(features: QuestionFeatures) -> None:
    peru, chile = Taught("What is the capital of Peru?", "Lima."), Taught("What is the capital of Chile?", "Santiago.")
    scope = Scope(features, [peru, chile], -1.0, _Likeness(), 0.0)
    assert scope.taught_for("Tell me the capital of Chile.") is chile
    assert scope.taught_for("Tell me the capital of Peru.") is peru


def test_many_questions_are_told_as_each_alone_and_nothing_is_read_apart(features: QuestionFeatures) -> None:
    peru = Taught("What is the capital of Peru?", "Lima.", apart=("What is the largest city of Peru?",))
    chile = Taught("What is the capital of Chile?", "Santiago.")
    questions = [
        peru.question, "Tell me the capital of Peru.", "What is the largest city of Peru?", "Name the largest city of Peru.",
        "Why do owls fly at night?", "Tell me the capital of Chile.", "Tell me the capital of Peru.",
    ]  # fmt: skip
    alone = Scope(features, [peru, chile], -1.0, _Likeness(), 2.0)
    same = _Likeness()
    together = Scope(features, [peru, chile], -1.0, same, 2.0).covers_each(questions)
    assert together == [alone.covers(question) for question in questions]
    assert same.unforeseen == [] and True in together and False in together


class _Likeness:
    """Words in common."""

    def __init__(self) -> None:
        self.together: set[tuple[str, str]] = set()
        self.unforeseen: list[str] = []

    def read(self, asked: Mapping[str, Sequence[Taught]]) -> None:
        self.together |= {(question, t.question) for question, taught in asked.items() for t in taught}

    def scores(self, question: str, taught: Sequence[Taught]) -> list[float]:
        self.unforeseen += [t.question for t in taught if (question, t.question) not in self.together]
        return [float(len(set(words_of(question)) & set(words_of(t.question)))) for t in taught]

    def forget(self) -> None:
        pass
