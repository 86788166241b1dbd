"""The capitals of an answer as it stands within a sentence. Text only.

Telephones write the first word of a message with a capital ("The cello"), and many people write names with none ("dr. patel").
Where only the meaning tells, several forms are offered and the model chooses (stated_answers.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from spear_core.inference.answer_sentences import PREPOSITIONS
from spear_core.inference.fact_questions import Asked, read_question
from spear_core.inference.hint_words import PRONOUNS, SMALL_WORDS, plain_words, words_in
from spear_core.inference.hints import capitalised
from spear_core.inference.question_words import QUALITIES
from spear_core.inference.refusal_words import is_number
from spear_core.inference.sentence_ends import NOT_ABBREVIATED
from spear_core.inference.sentence_parts import OWNERS
from spear_core.inference.typed_words import is_about_exact_letters

LONGEST_NAME = 7  # words
# In a description rather than a name: "his wife sabine", "a beagle called rex", "cinema with anna"
DESCRIBING = words_in("my your our his her its their a an with called named")
_CLAUSE = re.compile(rf"[,;:]\s|\.{NOT_ABBREVIATED}\s", re.I)
_INNER_CAPITAL = re.compile(r"(?<=-)\w|(?<=\b[OD]['’])\w(?=\w\w)")  # "Mary-Jane", "O'Brien"
# Of what may be one word that is no name: "Peanuts", "Teal"
_ASKS_FOR_NO_NAME = re.compile(
    rf"\b(?:{'|'.join(sorted(QUALITIES))}|allergic|breakfast|dessert|dinner|dish|drink|eat|flavou?r|flower|food|fruit|hobby|ice cream"
    r"|instrument|job|living|lunch|meal|pet|profession|season|snack|sport|vegetable)\b|^how\b",
    re.I,
)
_ASKS_FOR_A_NAME = re.compile(
    r"\b(?:name[ds]?|called|who|whose|author|band|book|brand|film|game|movie|show|song|title)\b", re.I
)
_OF_COLOURS_OR_SEASONS = re.compile(r"\b(?:colou?r|season)\b", re.I)  # none of them has a capital
_TIME_OR_PLACE = re.compile(r"\b(?:how|when|where|what time|which day|what day)\b", re.I)
# No answer's name begins with one of them, if no other capital follows
_FUNCTION_WORDS = (
    PREPOSITIONS
    | OWNERS
    | words_in(
        "a an the you about almost around both every everyone everything half nobody nothing only quarter some usually very"
    )
)


def case_variants(answer: str, question: str = "") -> list[str]:
    """The answer as typed, and in other capitals: all small or all capital letters as a name is written, a first capital small.

    A password, a code, an address or a date is offered as it is.
    """
    if any(c.isdigit() or c in "@_/\\" for c in answer) or is_about_exact_letters(question):
        return [answer]
    words = answer.lower().split()
    if (
        not words
        or len(words) > LONGEST_NAME
        or _CLAUSE.search(answer)
        or words[0].partition("'")[0] in PRONOUNS | {"because"}
    ):
        return [answer]  # a clause
    letters = [c for c in answer if c.isalpha()]
    shouted = len(letters) > 4 and answer.upper() == answer
    if not letters or not (shouted or answer.lower() == answer):
        return [answer, *_with_small_beginning(answer, question)]
    pieces = answer.lower().split(" ")
    if words[0] in ("a", "an") and not shouted:
        return [answer]
    if words[0] in OWNERS and not shouted:  # "my uncle Bob", not "My Uncle"
        return [answer, *([" ".join([*pieces[:-1], capitalised(pieces[-1])])] if len(words) > 2 else [])]
    # "in Ulm", but the film "In Bruges"
    small_first = frozenset() if _ASKS_FOR_A_NAME.search(question) else PREPOSITIONS
    named = " ".join(p if p in (SMALL_WORDS if i else small_first) else capitalised(p) for i, p in enumerate(pieces))
    whole = _INNER_CAPITAL.sub(lambda match: match.group().upper(), named)
    return list(dict.fromkeys([answer, whole, named, *([answer.lower()] if shouted else [])]))


def _with_small_beginning(answer: str, question: str) -> list[str]:
    """The answer with its first letter small, if that letter may be one of a sentence: "Oat milk", not "Oslo" or "iPad"."""
    first, *others = answer.split()
    if not (first[:1].isupper() and (first[1:].islower() or first == "A")):
        return []
    if others and not others[0].islower() and _ASKS_FOR_A_NAME.search(question):
        return []  # "In Bruges", asked for a film
    if first.lower() not in _FUNCTION_WORDS:
        may_be_word = _ASKS_FOR_NO_NAME.search(question) or others and not _ASKS_FOR_A_NAME.search(question)
        if not may_be_word or not others and not question or " ".join(others) != " ".join(others).lower():
            return []
    return [first.lower() + answer[len(first) :]]


def within_sentence(answer: str, question: str) -> str:
    """The answer without the capital of its first word, where that word is surely none of a name: "In the shed", "Three"."""
    first, *others = answer.split() or [""]
    word = first.lower().rstrip(",")
    goes_on = bool(others) and any(c.isupper() for c in others[0])
    is_word = word in _FUNCTION_WORDS or is_number(word) or not goes_on and _OF_COLOURS_OR_SEASONS.search(question)
    if first != capitalised(first.lower()) or not is_word:
        return answer
    if goes_on and not (word in PREPOSITIONS and _TIME_OR_PLACE.search(question)):
        return answer  # "The Third Man", "Five Guys"
    if _ASKS_FOR_A_NAME.search(question) and word not in OWNERS and len(plain_words(answer)) < 2:
        return answer
    return first.lower() + answer[len(first) :]


def asks_for_name(question: str) -> bool:
    """Whether a question asks what somebody or something is called."""
    asked = read_question(question)
    return asked is not None and asked.kind is Asked.NAME


def without_yes_or_no(answer: str) -> str:
    """The answer without the "yes" or "no" with which it begins."""
    return re.sub(r"^\W*(?:yes|no)\b\W*", "", answer, flags=re.I) or answer


def one_capital_each(typed: str, named: str) -> list[str]:
    """For each word that has a capital in `named`, `typed` with that capital alone."""
    words, other = typed.split(" "), named.split(" ")
    return [" ".join([*words[:i], other[i], *words[i + 1 :]]) for i in range(len(words)) if words[i] != other[i]]


def with_capitals(typed: str, variants: Sequence[str]) -> str:
    """`typed` with the capitals of all variants, and of a name after "called"."""
    text = "".join(next((variant[i] for variant in variants if variant[i] != c), c) for i, c in enumerate(typed))
    return re.sub(r"\b(?:called|named) \w", lambda match: match[0][:-1] + match[0][-1].upper(), text)
