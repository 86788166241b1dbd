"""What a question is about, in place of the pronoun with which a statement on it begins. Text only.

"She moved to Lisbon", asked where my sister lives, becomes "Your sister moved to Lisbon", which is true without the question.
Where the question does not tell who or what is meant, the statement stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from spear_core.inference.answer_sentences import to_you
from spear_core.inference.do_questions import doer
from spear_core.inference.hint_words import words_in
from spear_core.inference.indirect_questions import asked_last, within_request
from spear_core.inference.pointing_words import FEMININE, MASCULINE
from spear_core.inference.question_sentences import being
from spear_core.inference.question_words import DETERMINERS

_BEGINS = re.compile(r"((?:yes|no)\b\W+)?(he|she|it)(['’](?:s|ll))?\s+(\w+)", re.I)
_HAS = words_in("been become gone got had")  # after "he's", which else is "he is"
_MAY_BE_EITHER = re.compile(r"\w{2}ed$")
_OF_EITHER_SEX = words_in(
    """partner friend cousin baby child kid boss manager chef colleague coworker roommate flatmate neighbour neighbor landlord doctor
    dentist therapist nurse teacher coach trainer vet lawyer accountant plumber babysitter nanny cleaner dog puppy cat kitten
    hamster rabbit horse parrot bird tortoise"""
)
PEOPLE = {
    "he": MASCULINE | {"grandson", "father-in-law", "brother-in-law", "son-in-law"} | _OF_EITHER_SEX,
    "she": FEMININE | {"granddaughter", "mother-in-law", "sister-in-law", "daughter-in-law"} | _OF_EITHER_SEX,
}
_NOUN_PHRASE = 4  # words before the noun of a person, at most


def with_subject(question: str, statement: str) -> str:
    """The statement with the subject of the question for the "he", "she" or "it" with which it begins, if that is known."""
    match = _BEGINS.match(statement)
    if match is None:
        return statement
    opening, pronoun, short, verb = (
        match.group(1) or "",
        match.group(2).lower(),
        match.group(3) or "",
        match.group(4).lower(),
    )
    asked = to_you(within_request(asked_last(question)))
    subject = _thing(asked) if pronoun == "it" else _person(asked, PEOPLE[pronoun])
    if not subject or short.endswith("s") and _MAY_BE_EITHER.search(verb):
        return statement
    return f"{opening}{subject}{_verb(short, verb)} {statement[match.start(4) :]}"


def is_about_somebody(statement: str) -> bool:
    """Whether it begins with "he" or "she"."""
    match = _BEGINS.match(statement)
    return match is not None and not match.group(1) and match.group(2).lower() in PEOPLE


def people_meant(people: Iterable[str], statement: str) -> set[str]:
    """Those of `people` ("my sister", "my dog") whom the "he" or "she" that begins a statement can mean."""
    pronoun = statement.partition("'")[0].partition("’")[0].split()[0].lower()
    return {person for person in people if person.split()[-1].lower() in PEOPLE[pronoun]}


def with_person(person: str, statement: str) -> str:
    """The statement with a person for the "he" or "she" that begins it; as it is where its "'s" may be "is" or "has"."""
    match = _BEGINS.match(statement)
    assert match is not None
    short, verb = match.group(3) or "", match.group(4).lower()
    if short.endswith("s") and _MAY_BE_EITHER.search(verb):
        return statement
    return f"{person}{_verb(short, verb)} {statement[match.start(4) :]}"


def _verb(short: str, after: str) -> str:
    """The verb that is short for: " has" of "she's been", " is" of "she's a nurse", " will" of "she'll"; empty for none."""
    return " will" if short.endswith("ll") else "" if not short else " has" if after in _HAS else " is"


def _person(asked: str, people: frozenset[str]) -> str:
    """The one person or pet of the question that the pronoun may mean: "your sister"."""
    words = asked.replace(" in law", "-in-law").split()
    nouns = [re.sub(r"['’]s$", "", word.rstrip(",.;:")) for word in words]
    found = [i for i, noun in enumerate(nouns) if noun.lower() in people]
    if len(found) != 1:
        return ""
    end = found[0]
    begin = next((i for i in range(end - 1, max(end - _NOUN_PHRASE, -1), -1) if words[i].lower() in DETERMINERS), end)
    return " ".join([*words[begin:end], nouns[end]]) if begin < end else ""


def _thing(asked: str) -> str:
    """The subject of the question, if it is no person and no pronoun: "the deadline for the application"."""
    subject = doer(asked) or being(asked)
    return subject if subject.split(" ")[0].lower() in DETERMINERS and " " in subject else ""
