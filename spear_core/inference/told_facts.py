"""What a person told of themselves earlier in the conversation, as the answer to a question about it. No model.

"My dog is called Bruno." answers "What is my dog called?". A small model that reads both seldom puts them together.
"""

from __future__ import annotations

import re

from spear_core.inference.answer_sentences import last_question
from spear_core.inference.fact_questions import PERSON, read_question
from spear_core.inference.hint_words import plain_words
from spear_core.inference.hints import HintKind, read_hint
from spear_core.inference.own_names import asks_own_name, own_name
from spear_core.inference.pronoun_subjects import is_about_somebody, people_meant, with_person
from spear_core.inference.refusals import Fit, fit, holds
from spear_core.inference.sentence_ends import NOT_ABBREVIATED
from spear_core.inference.told_in_passing import people_in, told_in_passing
from spear_core.training.traces import Messages

MOST_CHARACTERS = 300  # of a statement; what is longer says more than one thing
MOST_LOOKED_AT = 50  # of the newest messages
# "Hello! My name is Bo.", "My dog is called Bruno and I live in Bergen."
_STATEMENT_ENDS = re.compile(
    rf"(?<=[.!;]){NOT_ABBREVIATED}\s+|,?\s+(?:and|but)\s+(?=(?:I|we|my|our|he|she|it|they)\b)", re.I
)

_GREETING = re.compile(r"^(?:(?:hi|hello|hey|well|so|ok|okay|oh|by the way|btw)(?: there)?[,!.]?\s+)+", re.I)
_ME = "(?:I'm|I am)"
# What people say of themselves in other words than they are asked in: the question in lower case, and the statement
_IN_OTHER_WORDS = (
    (
        re.compile(
            r"(?:what(?:'s|s| is) my (?:job|profession|occupation)|what (?:do i|i) (?:do|work as)(?: for (?:a living|work))?)$"
        ),
        re.compile(r"I(?:'m| am|'ve been| have been)? work(?:ing)? as (?:an? )?\w+", re.I),
    ),
    (re.compile(r"where (?:am i|i am|do i come) from$"), re.compile(rf"(?:{_ME}|I come) from [A-Z]\w+")),
    (
        re.compile(r"what (?:am i|i am|i'm) allergic to$"),
        re.compile(rf"{_ME} (?:\w+ )?allergic to \w+"),
    ),
)
_ASKS_JOB_OF = re.compile(r"what does (?:my|our) (.+) do(?: for (?:a living|work))?$")


def told_fact(prompt: Messages) -> str:
    """The newest statement of the person that answers the prompt's question about them; empty where there is none."""
    question = prompt[-1]["content"]
    if not PERSON & {*plain_words(question)}:
        return ""
    asked, said = read_question(question), " ".join(plain_words(last_question(question)))
    is_personal = asked is not None and asked.is_personal
    of_statement = [answering for asking, answering in _IN_OTHER_WORDS if asking.search(said)]
    if job_of := _ASKS_JOB_OF.search(said):  # "my sister lives in Graz" repeats all the words that tell
        is_personal = False
        of_statement = [
            re.compile(rf"(?:my|our) {re.escape(job_of[1])} (?:is|works as) an? (?!bit\b|little\b|mess\b)\w", re.I)
        ]
    asks_name = asks_own_name(question)
    for message in prompt[-2 : -MOST_LOOKED_AT - 2 : -1]:
        text = message["content"].strip()
        if message["role"] != "user" or "?" in text or len(text) > MOST_CHARACTERS:
            continue
        for statement in reversed(_statements(text)):
            if statement and (
                asks_name
                and own_name(statement)
                or any(pattern.match(statement) for pattern in of_statement)
                and holds(question, statement)
                or is_personal
                and _states(statement, question)
            ):
                return statement
    return ""


def _statements(text: str) -> list[str]:
    """The statements of a message, in their order: its sentences, and what they tell in passing."""
    found: list[str] = []
    people: set[str] = set()
    for part in _STATEMENT_ENDS.split(text):
        statement = _GREETING.sub("", part)
        if is_about_somebody(statement):
            meant = people_meant(people, statement)
            if len(meant) > 1:
                continue  # "My brother met my boss. He lives in Ulm."
            statement = with_person(meant.pop(), statement) if meant else statement
        told = [*told_in_passing(statement), statement]
        people |= {person for said in told for person in people_in(said)}
        found += told
    return found


def _states(statement: str, question: str) -> bool:
    """Whether it answers the question in the question's own words."""
    hint = read_hint(statement, question)
    return hint.kind is HintKind.STATES and fit(question, "", statement, hint, objection=False) is Fit.STATES
