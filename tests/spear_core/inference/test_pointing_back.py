"""A question that names what it is about does not lean on what was said, whatever pronouns it has."""

from __future__ import annotations

import pytest

from spear_core.inference.pointing_back import leans_on_history

STANDING_ALONE = [
    "What is the capital of Peru?",
    "How does my husband take his tea?",
    "When is my car due for its next service?",
    "Does our cleaner bring her own products?",
    "Where do puppies hide when they are scared?",
    "In which street did Hermann Lund live when he found the comet?",
    "Why did the council sell its land?",
    "Who owns the bridge that I cross every day?",
    "What is the line that separates the two countries?",
    "Who was the painter that Maria Ness married?",
    "How many players are there in a team?",
    "Is there a dentist near my office?",
    "How many people are there?",
    "What is our first goal this year?",
    "What time is it in Tokyo?",
    "How long does it take to get to work?",
    "Is it dangerous to swim after lunch?",
    "Which coat do I wear when it rains?",
    "The tax office wants our VAT number, what is it?",
    "The Indus flows through all of Pakistan; where does it rise?",
    "Who runs the IT helpdesk?",
    "I need the code of the back door and the shed, who knows that?",
]
LEANING = [
    "And its capital?",
    "Why?",
    "Who is she?",
    "What is the population of its capital?",
    "What is the name of his wife?",
    "Who wrote that book?",
    "Why is that?",
    "What about this one?",
    "Is it close to the station?",
    "Is it going to be expensive?",
    "Shall I write it in English?",
    "When did Einstein publish it?",
    "Did Anna say where it is?",
    "How many people live there?",
    "Who was there?",
    "Which of these is opaque?",
    "Why do I owe him money?",
    "What colour are its eyes?",
    "Where does he take his nap?",
    "Can you explain that more simply?",
    "Great answer, but when was he born?",
    "How long does it take?",
]


@pytest.mark.parametrize("question", STANDING_ALONE)
def test_what_the_question_names_itself_does_not_point_back(question: str) -> None:
    assert not leans_on_history(question)


@pytest.mark.parametrize("question", LEANING)
def test_what_was_named_before_is_pointed_back_to(question: str) -> None:
    assert leans_on_history(question)


@pytest.mark.parametrize("question", ["", "?", "WHO IS HE AND WHERE IS IT", "it", "that that that", "This", "is it's"])
def test_what_is_hardly_a_question_leans(question: str) -> None:
    assert leans_on_history(question)
