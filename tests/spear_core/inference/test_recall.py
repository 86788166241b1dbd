"""A question in other words is asked in those that were taught; nothing else of a prompt changes."""

from __future__ import annotations

import pytest

from spear_core.inference.pointing_back import leans_on_history
from spear_core.inference.recall import as_taught, related, standing_alone
from spear_core.inference.scope import Taught, asked_in

QUESTION = "What is my cat called?"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_the_last_message_is_asked_in_the_taught_words_and_the_rest_stays() -> None:
    taught = Taught(QUESTION, "Luna.", [user("Something else"), user(QUESTION)])
    prompt = [{"role": "system", "content": "Be short."}, user("Hi"), user("Name of my cat?")]
    assert as_taught(prompt, taught) == [*prompt[:2], user(QUESTION)]
    assert prompt[-1] == user("Name of my cat?")


def test_what_was_taught_alone_is_asked_alone() -> None:
    system = {"role": "system", "content": "Be short."}
    prompt = [system, user("Hi"), {"role": "assistant", "content": "Hello."}, user("Name of my cat?")]
    for taught_with in ([user(QUESTION)], [{"role": "system", "content": "Be kind."}, user(QUESTION)]):
        assert as_taught(prompt, Taught(QUESTION, "Luna.", taught_with)) == [system, user(QUESTION)]


def test_only_a_question_that_leans_on_what_was_said_is_taught_with_it() -> None:
    system = {"role": "system", "content": "Be short."}
    before = [user("What is my cat called?"), {"role": "assistant", "content": "Luna."}]
    assert standing_alone([system, *before, user("Where is the key?")]) == [system, user("Where is the key?")]
    assert standing_alone([user("Where is the key?")]) == [user("Where is the key?")]
    leaning = [system, *before, user("And how old is she?")]
    assert standing_alone(leaning) == leaning


def test_what_must_not_take_the_place_of_other_words_does_not() -> None:
    prompt = [user("Name of my cat?")]
    assert as_taught(prompt, Taught(QUESTION, "Luna.")) == prompt


@pytest.mark.parametrize(
    ("last", "leans"),
    [("And its capital?", True), ("Why?", True), ("Who is she?", True), ("What is the capital of Peru?", False)],
)
def test_a_question_that_leans_on_what_was_said_is_compared_with_it(last: str, leans: bool) -> None:
    prompt = [user("Tell me about Peru."), {"role": "assistant", "content": "A country."}, user(last)]
    assert leans_on_history(last) is leans
    assert asked_in(prompt) == (f"Tell me about Peru. {last}" if leans else last)
    assert asked_in(prompt[-1:]) == last


OSLO = [user("I live in Oslo with my dog Rex."), {"role": "assistant", "content": "Nice to meet you!"}]
FRANCE = [user("What is the capital of France?"), {"role": "assistant", "content": "Paris."}]
SYSTEM = {"role": "system", "content": "Be short."}


@pytest.mark.parametrize(
    ("question", "read"),
    [
        ("How many legs does a spider have?", []),
        ("What is the capital of Italy?", FRANCE),
        ("Which country is Paris the biggest city of?", FRANCE),
        ("What is my dog called?", OSLO),
        ("What should I wear today?", OSLO),
        ("Who are you?", []),
        ("what's your name", []),
        ("Are you sure?", [*OSLO, *FRANCE]),
        ("And of Italy?", [*OSLO, *FRANCE]),
        ("Which is better?", [*OSLO, *FRANCE]),
        ("Tell me a fun fact.", []),
        ("Write a short poem, please.", []),
        ("Make the answer shorter.", [*OSLO, *FRANCE]),
    ],
)
def test_a_question_is_read_with_the_exchanges_that_have_to_do_with_it(
    question: str, read: list[dict[str, str]]
) -> None:
    assert related([SYSTEM, *OSLO, *FRANCE, user(question)]) == [SYSTEM, *read, user(question)]
