"""Revisions that say the stated answer, on tiny random models of every kind: what holds whatever the model prefers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spear_core.inference import stated_answers
from spear_core.inference.hints import read_hint
from spear_core.inference.stated_answers import SCAFFOLDING, Asked, Candidate, stated_revisions
from spear_core.models.loading import LoadedModel, load_model
from spear_core.training.judge import normalised
from spear_core.training.traces import Encoder
from tests.tiny_models import KINDS, tiny_folder

QUESTION = "What is the capital of Norway?"
REPLY = "The capital of Norway is Bergen."
LONG = "Norway is a country in the north. " * 6 + "Its capital is Bergen, by the sea. It rains a lot there."


@pytest.fixture(scope="module", params=KINDS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder: Path = tmp_path_factory.mktemp("model")
    return load_model(str(tiny_folder(request.param, folder)))


def revised(loaded: LoadedModel, hint: str, *refused: str, **how: Any) -> list[Candidate]:
    asked = Asked([{"role": "user", "content": QUESTION}], refused or (REPLY,))
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    return stated_revisions(loaded.model, encoder, asked, read_hint(hint, QUESTION), **how)


def test_every_sentence_says_the_answer_and_none_shows_the_request(loaded: LoadedModel) -> None:
    found = revised(loaded, "no, Oslo")
    assert found and [c.score for c in found] == sorted((c.score for c in found), reverse=True)
    for candidate in found:
        assert "oslo" in candidate.text.lower() and "\ufffd" not in candidate.text
        assert not candidate.text.startswith(SCAFFOLDING) and candidate.text[-1] in ".!?"
    assert {"reply", "question", "bare"} & {c.source for c in found} and "Oslo." in [c.text for c in found]


@pytest.mark.parametrize(
    ("question", "answer", "text", "fits"),
    [
        ("Where is the key?", "under the pot", "The solution to the question is under the pot.", False),
        ("Where is the key?", "under the pot", "The answer is under the pot.", False),
        ("Where is the key?", "under the pot", "You keep it under the pot.", True),
        ("How many kids has he?", "two, both girls", "He has two kids, both girls.", True),
        ("How many kids has he?", "two, both girls", "He has two kids.", False),
        ("What is the answer to the riddle?", "an egg", "The answer to the riddle is an egg.", True),
        ("What should Ben send?", "his reply to this question", "Ben should send his reply to this question.", True),
    ],
)
def test_a_sentence_about_the_question_is_not_said(question: str, answer: str, text: str, fits: bool) -> None:
    asked = stated_answers.Asked([{"role": "user", "content": question}], [])
    assert stated_answers._is_fit(text, answer, "", asked) is fits


def test_what_was_refused_is_not_said_again(loaded: LoadedModel) -> None:
    refused = [REPLY]
    for _ in range(3):
        found = revised(loaded, "no, Oslo", *refused)
        if not found:
            break
        assert normalised(found[0].text) not in {normalised(text) for text in refused}
        refused.append(found[0].text)
    assert len(refused) > 2


def test_what_the_hint_calls_wrong_is_not_said(loaded: LoadedModel) -> None:
    found = revised(loaded, "it's Oslo, not Bergen")
    assert found and not any("bergen" in c.text.lower() for c in found)


def test_a_no_to_a_question_of_yes_or_no_is_not_turned_into_a_yes(loaded: LoadedModel) -> None:
    question, reply = "Is Pluto a planet?", "Yes, Pluto is a planet of the solar system."
    asked = Asked([{"role": "user", "content": question}], [reply])
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    for said in ("No, Pluto is a dwarf planet.", "No, it's a dwarf planet since 2006."):
        found = stated_revisions(loaded.model, encoder, asked, read_hint(said, question))
        assert said in [c.text for c in found] and all(c.text.lstrip("- ").startswith("No") for c in found)


def test_a_no_to_a_reply_that_says_no_is_no_answer(loaded: LoadedModel) -> None:
    question, reply = "Is a tomato a fruit?", "No, a tomato is a vegetable."
    asked = Asked([{"role": "user", "content": question}], [reply])
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    found = stated_revisions(loaded.model, encoder, asked, read_hint("no, it's a fruit", question))
    assert "Yes, a tomato is a fruit." in [c.text for c in found] and all(c.text.startswith("Yes") for c in found)
    found = stated_revisions(loaded.model, encoder, asked, read_hint("no, it's a berry", question))
    assert "a berry." in [c.text.lower() for c in found] and not any(c.text.startswith("No") for c in found)
    assert stated_revisions(loaded.model, encoder, asked, read_hint("no, it is", question)) == []


@pytest.mark.parametrize(
    ("question", "reply", "said", "expected"),
    [
        ("What is my name?", "Your name is Max.", "I'm Bo.", "Your name is Bo."),
        ("What is my name?", "Your name is Max.", "I am Colombian.", "You are Colombian."),
        ("How old is the house?", "The house is 10 years old.", "it was built in 1920", "It was built in 1920."),
        (
            "What is my dog called?",
            "Your dog is called Max.",
            "My dog's name is Bruno not Max",
            "Your dog's name is Bruno.",
        ),
    ],
)
def test_nothing_is_built_around_a_clause(
    loaded: LoadedModel, question: str, reply: str, said: str, expected: str
) -> None:
    asked = Asked([{"role": "user", "content": question}], [reply])
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    found = stated_revisions(loaded.model, encoder, asked, read_hint(said, question), is_unwanted=lambda: True)
    assert expected in [c.text for c in found]
    assert all(" You are " not in c.text and " Your dog's" not in c.text and " it was" not in c.text for c in found)


def test_a_sentence_in_the_words_of_the_question_is_preferred_to_a_shorter_beginning_of_the_reply(
    loaded: LoadedModel,
) -> None:
    question = "Where is my mum from?"
    asked = Asked([{"role": "user", "content": question}], ["Your mum is from Vienna."])
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    found = stated_revisions(loaded.model, encoder, asked, read_hint("Graz", question), is_unwanted=lambda: True)
    assert ("Your mum is from Graz.", "question") in [(c.text, c.source) for c in found]
    assert "Your mum is Graz." not in [c.text for c in found]


@pytest.mark.parametrize(
    ("question", "reply", "said", "expected"),
    [
        ("Where is the key?", "It is here.", "In the shed", "The key is in the shed."),
        ("Who is our guide?", "It is Max.", "My brother Tom", "Your guide is your brother Tom."),
        ("who cooks at home?", "You cook.", "my wife does", "Your wife cooks at home."),
        ("What is the wifi password?", "It is 1234.", "bluewhale", "The wifi password is bluewhale."),
    ],
)
def test_the_answer_has_its_letters_as_within_a_sentence(
    loaded: LoadedModel, question: str, reply: str, said: str, expected: str
) -> None:
    asked = Asked([{"role": "user", "content": question}], [reply])
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    found = stated_revisions(loaded.model, encoder, asked, read_hint(said, question), is_unwanted=lambda: True)
    assert expected in [c.text for c in found]


def test_what_the_model_writes_of_the_persons_own_is_said_to_them(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stated_answers, "_written", lambda *_: "The reason we left is because it rained")
    monkeypatch.setattr(stated_answers, "SURPRISE", float("-inf"))
    asked = Asked([{"role": "user", "content": "Tell me the reason we left."}], ["The reason is unknown."])
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    found = stated_revisions(loaded.model, encoder, asked, read_hint("because it rained"))
    assert not [c.text for c in found if " we " in c.text]


def test_a_fragment_that_the_model_writes_is_no_candidate(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stated_answers, "_written", lambda *_: "The 37 people in the Lisbon office")
    asked = Asked([{"role": "user", "content": "How many people are in the Lisbon office?"}], ["There are 20 people."])
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    found = stated_revisions(loaded.model, encoder, asked, read_hint("37"))
    assert "37 people are in the Lisbon office." in [c.text for c in found]
    assert "written" not in {c.source for c in found}


def test_nobody_waits_for_a_sentence_that_is_not_wanted_any_more(loaded: LoadedModel) -> None:
    assert "written" not in {c.source for c in revised(loaded, "no, Oslo", is_unwanted=lambda: True)}


def test_a_reason_is_said_in_the_words_of_the_question_before_any_other_sentence(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stated_answers, "SURPRISE", float("-inf"))  # a random model finds every sentence unnatural
    monkeypatch.setattr(stated_answers, "DOUBTFUL", float("-inf"))
    question = "Why is the sea salty?"
    asked = Asked([{"role": "user", "content": question}], ["The sea is a place."])
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    for reason in ("because of rivers", "because " + "rivers carry salt into it and " * 2 + "nothing takes it out"):
        best, other, *rest = stated_revisions(loaded.model, encoder, asked, read_hint(reason, question))
        assert {best.text, other.text} == {f"The sea is salty {reason}.", f"The is sea salty {reason}."}
        assert rest and all(c.source != "question" for c in rest)
