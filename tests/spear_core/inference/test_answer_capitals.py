"""Which words of an answer typed in small letters get a capital, as far as question and words tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.models.built_in import SMOLLM2, model_folder, smollm2_weights
from spear_core.inference.letter_case import (
    asks_for_name,
    one_capital_each,
    with_capitals,
    without_yes_or_no,
)
from spear_core.inference.stated_answers import Asked, _as_written
from spear_core.inference.typed_words import is_about_exact_letters
from spear_core.models.loading import load_model
from spear_core.training.traces import Encoder


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
