"""The name that people give as their own: "I'm Bo.", "Call me Bo". Read from the words alone. No model."""

from __future__ import annotations

import re

from spear_core.inference.answer_sentences import last_question
from spear_core.inference.hint_words import plain_words, words_in
from spear_core.inference.hints import capitalised
from spear_core.inference.refusal_words import ADVERBS, NO_ANSWERS, TIMES

_ASKS = re.compile(r"(?:what(?:'s|s| is) my (?:first |full )?name|what my name is|my name|who (?:am i|i am))$")
_GIVES = re.compile(
    r"(?:(?:I['’]m|I am)(?: called)?|(?i:call me|my name(?:['’]s| is))) ([A-Z][\w'’-]+(?: [A-Z][\w'’-]+)?)[.!]?$"
)
_GIVES_IN_SMALL_LETTERS = re.compile(r"my name(?:['’]s| is) ([a-z][\w'’-]+)[.!]?$", re.I)
# Of a nationality, a religion or an opinion; a few names end so too
_GROUP = re.compile(r"\w{3}(?:ian|can|ean|ese|ish|ist|stani)$")
_NAMES = words_in(
    "adrian damian dorian duncan fabian florian gillian hamish julian killian lilian lillian marian sebastian therese vivian"
)
_NO_NAMES = words_in(
    """arab asian bangladeshi british catholic cuban czech danish dutch french german greek hindu iraqi irish israeli jewish kenyan libyan
    muslim protestant sikh swiss thai vegan welsh
    back bored confused crazy curious divorced done excited hungry later married maybe please pregnant ready retired scared single
    sorry surprised thirsty unemployed worried"""
)
# What is said of a name
_OF_NAMES = words_in(
    "common difficult foreign long misspelled misspelt old-fashioned popular pronounced rare short spelled spelt unusual"
)


def asks_own_name(question: str) -> bool:
    """Whether a person asks for their own name."""
    return _ASKS.search(" ".join(plain_words(last_question(question)))) is not None


def own_name(statement: str) -> str:
    """The name, one or two words, that a statement gives as the speaker's; empty where it gives none.

    They have capitals, but for one word after "My name is".
    """
    said = statement.strip()
    match = _GIVES.match(said) or _GIVES_IN_SMALL_LETTERS.match(said)
    if match is None:
        return ""
    words = plain_words(match.group(1))
    is_group = any(_GROUP.search(word) and word not in _NAMES for word in words)
    return (
        ""
        if is_group
        or {*words} & (_NO_NAMES | _OF_NAMES | NO_ANSWERS | ADVERBS | TIMES - {"april", "august", "june", "may"})
        else capitalised(match.group(1))
    )
