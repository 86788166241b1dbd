"""The subject of the question for a pronoun."""

from __future__ import annotations

import pytest

from spear_core.inference.pronoun_subjects import with_subject


@pytest.mark.parametrize(
    ("question", "stated", "expected"),
    [
        ("where does my sister live now?", "she moved to Lisbon", "your sister moved to Lisbon"),
        ("Tell me what my cat eats.", "she only eats wet food", "your cat only eats wet food"),
        ("What did the doctor say about my knee?", "he said no running", "the doctor said no running"),
        ("Does my son like broccoli?", "no, he hates it", "no, your son hates it"),
        ("When's my mother in law visiting?", "she's coming in May", "your mother-in-law is coming in May"),
        ("What is my partner's job?", "she's got two", "your partner has got two"),
        ("When is the deadline for the grant?", "it was moved to May", "the deadline for the grant was moved to May"),
        ("whats my mums number", "it ends in 44", "your mums number ends in 44"),
    ],
)
def test_a_pronoun_gives_way_to_what_is_asked_about(question: str, stated: str, expected: str) -> None:
    assert with_subject(question, stated) == expected


@pytest.mark.parametrize(
    ("question", "stated"),
    [
        ("Where is my phone?", "she took it"),
        ("Where does my sister live?", "he moved to Lisbon"),  # somebody else
        ("Who is older, my brother or my cousin?", "he is"),
        ("What is my sister's neighbour called?", "she moved away"),  # which of the two
        ("What is my brother doing?", "he's retired"),  # "is" or "has"
        ("What do I do on Mondays?", "it depends"),
        ("Where does my sister live?", "in Lisbon"),
    ],
)
def test_it_stays_where_the_question_does_not_tell(question: str, stated: str) -> None:
    assert with_subject(question, stated) == stated
