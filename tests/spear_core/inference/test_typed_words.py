"""Apostrophes, weekdays and names that people type carelessly."""

from __future__ import annotations

import pytest

from spear_core.inference.typed_words import (
    with_apostrophes,
    with_known_capitals,
    with_names_of,
    with_title_capitals,
)


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("shes 7", "she's 7"),
        ("Im afraid of heights", "I'm afraid of heights"),
        ("we dont have one", "we don't have one"),
        ("whats that", "what's that"),
        ("were going to crete", "we're going to crete"),
        ("no, were moving in june", "no, we're moving in june"),
        ("we moved, its 14 Harbour Street", "we moved, it's 14 Harbour Street"),
    ],
)
def test_a_missing_apostrophe_is_put_in(typed: str, written: str) -> None:
    assert with_apostrophes(typed) == written


@pytest.mark.parametrize(
    "text", ["were you there", "well", "ill on Monday", "its tail", "the cat and its tail", "im@home.org", "don't"]
)
def test_a_word_of_its_own_gets_no_apostrophe(text: str) -> None:
    assert with_apostrophes(text) == text


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("every second wednesday", "every second Wednesday"),
        ("the 15th of november", "the 15th of November"),
        ("march 2031", "March 2031"),
        ("in may", "in May"),
        ("the 3rd of may", "the 3rd of May"),
        ("we speak portuguese at home", "we speak Portuguese at home"),
        ("in new zealand, near wellington", "in New Zealand, near Wellington"),
        ("he lives in lisbon with his french wife", "he lives in Lisbon with his French wife"),
        ("in turkey", "in Turkey"),
    ],
)
def test_weekdays_and_months_have_a_capital(typed: str, written: str) -> None:
    assert with_known_capitals(typed) == written


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("on Tuesday with dr. weber", "on Tuesday with Dr. Weber"),
        ("mrs keller", "Mrs Keller"),
        ("Dr. Weber", "Dr. Weber"),
        ("dr.weber@home.org", "dr.weber@home.org"),
        ("the mr", "the mr"),
    ],
)
def test_a_title_and_its_name_have_capitals(typed: str, written: str) -> None:
    assert with_title_capitals(typed) == written


@pytest.mark.parametrize(
    "text",
    [
        "it may rain",
        "they march on",
        "friday@home.org",
        "sunday-feeling",
        "june.kim",
        "allergic to turkey",
        "nail polish",
        "paris@home.org",
        "The wifi password is monday",
        "Your username is london",
    ],
)
def test_a_word_that_may_be_another_has_none(text: str) -> None:
    assert with_known_capitals(text) == text


@pytest.mark.parametrize(
    ("reply", "question", "written"),
    [
        ("The capital of Australia is Sydney.", "what is the capital of australia", "what is the capital of Australia"),
        ("It fell, as the Berlin Wall did.", "when did the berlin wall fall", "when did the Berlin Wall fall"),
        ("Visit New York.", "where is my new bike", "where is my new bike"),
        ("The bike is in Bike Street.", "where is my bike", "where is my bike"),
        ("I can feed a Hamster.", "where is my hamster", "where is my hamster"),
        ("Cars are parked outside.", "where are the cars", "where are the cars"),
    ],
)
def test_a_name_has_the_capital_that_the_reply_gives_it(reply: str, question: str, written: str) -> None:
    assert with_names_of(reply, question) == written
