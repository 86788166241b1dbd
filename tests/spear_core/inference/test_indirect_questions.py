"""Questions within requests."""

from __future__ import annotations

import pytest

from spear_core.inference.indirect_questions import within_request
from spear_core.inference.question_sentences import from_question


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("could you please tell me my shoe size", "what is my shoe size"),
        ("tell me the name of my boss", "what is the name of my boss"),
        ("name the smallest country", "what is the smallest country"),
        ("hey do you know where I parked", "where I parked"),
        ("what is my cat called again", "what is my cat called"),
        ("tell me a joke", "a joke"),
        ("what is there", "what is there"),
    ],
)
def test_the_question_is_found_within_the_request(question: str, asked: str) -> None:
    assert within_request(question) == asked


@pytest.mark.parametrize(
    ("question", "answer", "sentence"),
    [
        ("hey, do you know where I parked the car?", "on level 3", "You parked the car on level 3."),
        ("can you tell me when the trash gets collected?", "every friday", "The trash gets collected every Friday."),
        ("Do you remember who my favourite author is?", "Le Guin", "Your favourite author is Le Guin."),
        ("Can you remind me what our new channel is called?", "#ops", "Your new channel is called #ops."),
        ("Tell me what my cat eats.", "wet food", "Your cat eats wet food."),
        ("Do you know how I get to work?", "by tram", "You get to work by tram."),
        ("Can you tell me my shoe size?", "43", "Your shoe size is 43."),
        ("whats the name of my landlord?", "Mr. Petrov", "The name of your landlord is Mr. Petrov."),
    ],
)
def test_a_sentence_answers_the_question_within(question: str, answer: str, sentence: str) -> None:
    assert from_question(question, answer)[0] == sentence


@pytest.mark.parametrize("question", ["Tell me a joke.", "Do you know what I bought for her?", "Tell me more."])
def test_a_request_that_does_not_tell_how_gives_none(question: str) -> None:
    assert from_question(question, "a boat") == []
