"""Times, distances, reasons and doers in the words of the question."""

from __future__ import annotations

import pytest

from spear_core.inference.question_sentences import from_question
from spear_core.inference.question_words import before_time
from spear_core.inference.sentence_parts import who_does


@pytest.mark.parametrize(
    "time",
    ["half past six", "quarter to twelve", "ten to three", "seven", "18h30", "6.45 am", "8 in the morning", "noon"],
)
def test_a_time_of_the_day_follows_an_at_alone(time: str) -> None:
    assert before_time(time) == ("at ",)


@pytest.mark.parametrize("date", ["05/06/1990", "12.3.1985", "31-12-2031"])
def test_a_date_in_figures_follows_an_on(date: str) -> None:
    assert before_time(date) == ("on ",)


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("When does the last bus go?", "quarter to twelve", ["The last bus goes at quarter to twelve."]),
        ("How far is it to the lake?", "3 km", ["It is 3 km to the lake."]),
        ("How far is it from my house to work?", "3.5 km", ["It is 3.5 km from your house to work."]),
        ("How far is it?", "about 2 km", ["It is about 2 km away."]),
        ("Why did I quit my job?", "because it was far", ["You quit your job because it was far."]),
        ("Why does my back hurt?", "because of the fall", ["Your back hurts because of the fall."]),
    ],
)
def test_the_question_gives_one_sentence(question: str, answer: str, expected: list[str]) -> None:
    assert from_question(question, answer) == expected


@pytest.mark.parametrize(
    ("question", "answer", "subject"),
    [
        ("Who cooks at home?", "My brother does.", "My brother"),
        ("who walks the dog", "ana and leo do", "ana and leo"),
        ("Who is coming?", "Ana is", "Ana"),
        ("Who cooks?", "I do", "I do"),
        ("Who cooks?", "she does", "she does"),
        ("What does he like?", "what he does", "what he does"),
        ("Who cooks?", "Ana is ill and Leo does", "Ana is ill and Leo does"),
    ],
)
def test_a_verb_that_only_stands_for_the_questions_is_left_out(question: str, answer: str, subject: str) -> None:
    assert who_does(question, answer) == subject
