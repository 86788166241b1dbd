"""The capitals of an answer within a sentence: those of a message's first word, and those of names typed in small letters."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.models.built_in import SMOLLM2, model_folder, smollm2_weights
from spear_core.inference.letter_case import (
    asks_for_name,
    case_variants,
    one_capital_each,
    with_capitals,
    within_sentence,
    without_yes_or_no,
)
from spear_core.inference.stated_answers import Asked, _as_written
from spear_core.inference.typed_words import is_about_exact_letters
from spear_core.models.loading import load_model
from spear_core.training.traces import Encoder


@pytest.mark.parametrize(
    ("typed", "question", "written"),
    [
        ("In the shed behind the house", "Where is the spare key?", "in the shed behind the house"),
        ("On Elm Street", "Where did I park?", "on Elm Street"),
        ("The cello", "What instrument do I play?", "the cello"),
        ("Three", "How many children do I have?", "three"),
        ("Half past five", "What time do I get up?", "half past five"),
        ("Your brother Tom", "Who is our guide?", "your brother Tom"),
        ("Your brother", "Who is my emergency contact?", "your brother"),
        ("Teal", "What is my favourite colour?", "teal"),
        ("Autumn", "What is my favourite season?", "autumn"),
    ],
)
def test_the_first_word_of_a_message_is_small_within_a_sentence(typed: str, question: str, written: str) -> None:
    assert within_sentence(typed, question) == written


@pytest.mark.parametrize(
    ("typed", "question"),
    [
        ("The Third Man", "What is my favourite film?"),
        ("In Bruges", "What is my favourite film?"),
        ("Five Guys", "Where do we eat on Fridays?"),
        ("Pepper", "What is my cat called?"),
        ("Oslo", "What is the capital of Norway?"),
        ("VW", "What do I drive?"),
        ("", "What do I drive?"),
    ],
)
def test_a_title_or_a_name_keeps_its_capital(typed: str, question: str) -> None:
    assert within_sentence(typed, question) == typed


@pytest.mark.parametrize(
    ("typed", "question", "offered"),
    [
        ("Peanuts", "What am I allergic to?", ["Peanuts", "peanuts"]),
        ("Mushroom risotto", "What is my favourite dish?", ["Mushroom risotto", "mushroom risotto"]),
        ("A VW Golf", "What do I drive?", ["A VW Golf", "a VW Golf"]),
        ("Apple", "Where do I work?", ["Apple"]),
        ("Biscuit", "What is my dog's name?", ["Biscuit"]),
        ("Edouard manet", "Who painted it?", ["Edouard manet"]),
        ("In Bruges", "What is my favourite film?", ["In Bruges"]),
        ("iPad", "What did I buy?", ["iPad"]),
        ("dr. patel", "Who is the vet?", ["dr. patel", "Dr. Patel"]),
        ("mary-jane", "What is my sister's name?", ["mary-jane", "Mary-Jane", "Mary-jane"]),
        ("o'brien", "What is my teacher's name?", ["o'brien", "O'Brien", "O'brien"]),
        ("my uncle bob", "Who lives next door?", ["my uncle bob", "my uncle Bob"]),
        ("my mum", "Who picks up the kids?", ["my mum"]),
        ("a vet at the zoo", "What does my wife do?", ["a vet at the zoo"]),
    ],
)
def test_the_model_is_offered_the_forms_that_may_be_meant(typed: str, question: str, offered: list[str]) -> None:
    assert case_variants(typed, question) == offered


@pytest.mark.parametrize(
    "question",
    ["What is the wifi password?", "What is the alarm code?", "What is my username on the forum?", "what's my pin"],
)
def test_a_password_or_a_code_keeps_every_letter(question: str) -> None:
    assert case_variants("bluewhale", question) == ["bluewhale"]
    assert case_variants("YELLOWFISH", question) == ["YELLOWFISH"]


@pytest.mark.parametrize(
    ("question", "code", "name"),
    [
        ("What's my hamster called?", False, True),
        ("What is the name of my best friend?", False, True),
        ("What's my favourite colour?", False, False),
        ("What does my sister do?", False, False),
        ("What's the wifi password?", True, False),
        ("What is my wi-fi called?", True, True),
    ],
)
def test_a_question_tells_whether_a_name_or_a_code_is_asked_for(question: str, code: bool, name: bool) -> None:
    assert (is_about_exact_letters(question), asks_for_name(question)) == (code, name)


def test_each_word_of_a_description_is_decided_by_itself() -> None:
    variants = one_capital_each("paul and his wife sabine", "Paul and His Wife Sabine")
    assert variants == [
        "Paul and his wife sabine",
        "paul and His wife sabine",
        "paul and his Wife sabine",
        "paul and his wife Sabine",
    ]
    assert with_capitals("paul and his wife sabine", [variants[0], variants[3]]) == "Paul and his wife Sabine"
    assert with_capitals("a beagle called rex", []) == "a beagle called Rex"


def test_the_yes_or_no_before_a_clause_is_put_aside() -> None:
    assert without_yes_or_no("no, i'm vegetarian") == "i'm vegetarian"
    assert without_yes_or_no("nobody") == "nobody" and without_yes_or_no("no") == "no"


@pytest.mark.slow
@pytest.mark.skipif(smollm2_weights() is None, reason="SmolLM2 is not installed")
def test_the_default_model_gives_capitals_to_names_alone(tmp_path: Path) -> None:
    loaded = load_model(model_folder(SMOLLM2, tmp_path))
    encoder = Encoder(loaded.tokenizer, loaded.context_tokens)
    for question, typed, written in (
        ("What's my favourite colour?", "teal", "teal"),
        ("What is my favourite food?", "lasagne", "lasagne"),
        ("What does my sister do?", "nurse", "nurse"),
        ("What's the wifi password?", "sunshine", "sunshine"),
        ("How old is my daughter?", "mia is six", "mia is six"),
        ("What's my hamster called?", "nugget", "Nugget"),
        ("What did we name the boat?", "seagull", "Seagull"),
        ("Where does my mother live?", "in ulm", "in Ulm"),
        ("What language am I learning?", "portuguese", "Portuguese"),
        ("Who wrote Faust?", "goethe", "Goethe"),
        ("What is my favourite film?", "the big lebowski", "The Big Lebowski"),
        ("Who is coming to dinner on Friday?", "paul and his wife sabine", "Paul and his wife Sabine"),
    ):
        asked = Asked([{"role": "user", "content": question}], ["I don't know."])
        assert _as_written(loaded.model, encoder, asked, typed) == written
