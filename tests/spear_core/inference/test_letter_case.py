"""The capitals of an answer within a sentence: those of a message's first word, and those of names typed in small letters."""

from __future__ import annotations

import pytest

from spear_core.inference.letter_case import case_variants, within_sentence


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
