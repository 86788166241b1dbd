"""The question within a request ("could you tell me where I parked?"), and sentences from one. Text only."""

from __future__ import annotations

import re

from spear_core.inference.answer_sentences import PREPOSITIONS, has_verb, last_question, to_you
from spear_core.inference.fact_questions import REQUESTS, TIME_NOUNS
from spear_core.inference.hint_words import plain, words_in
from spear_core.inference.question_words import before_place, before_time
from spear_core.inference.typed_words import with_apostrophes

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_LONGEST_OPENING = 10  # words
_FILLERS = words_in("again please then thanks")  # at the end
_ORDER = re.compile(r"(?:please )?name (?=the\b|my\b|our\b)|(?:i need|i want|i'd like) to know ", re.I)
_OWN = words_in("my our")
_SUBJECT_STARTS = "my|our|your|the|his|her|their|i|we|he|she|it|they|you"
_VERB_FIRST = "is|are|was|were|am|do|does|did|can|could|will|would|should|has|have|had"
_INDIRECT = re.compile(
    r"(who|where|when|how(?: (?:often|old|tall|high|long|much|far))?"
    rf"|(?:what|which)(?: (?!(?:{_SUBJECT_STARTS}|{_VERB_FIRST})\b)\w+){{0,2}}?) ((?:{_SUBJECT_STARTS})\b.+)",
    re.I,
)
_ENDS_IN_BE = words_in("is are was were am called named")


def asked_last(question: str) -> str:
    """The last question of a message, without its mark and with the apostrophes that people leave out."""
    return with_apostrophes(last_question(question).rstrip("?!. "))


def within_request(question: str) -> str:
    """The question without the words that ask for it: "do you know my shoe size" gives "what is my shoe size"."""
    asked = question.strip()
    words = list(_WORD.finditer(asked))
    plain_words = tuple(plain(word.group()) for word in words)
    count = next((n for n in range(min(len(words) - 1, _LONGEST_OPENING), 0, -1) if plain_words[:n] in REQUESTS), 0)
    rest = asked[words[count].start() :] if count else asked
    if order := _ORDER.match(rest):
        rest = rest[order.end() :]
    last = len(words)
    while last > count + 2 and plain_words[last - 1] in _FILLERS:
        last -= 1
    if last < len(words):
        rest = rest[: len(rest) - (len(asked) - words[last - 1].end())]
    first = plain(rest.split()[0]) if rest else ""
    if rest != asked and (first in _OWN or first == "the" and " of " in rest or order and first == "the"):
        return f"what is {rest}"
    return rest


def is_indirect(asked: str, *, is_request: bool) -> bool:
    """Whether its subject stands before its verb: "where I parked the car". "What made the noise" is only in a request."""
    match = _INDIRECT.fullmatch(asked)
    return match is not None and (is_request or match.group(1)[:3].lower() == "how" or " " not in match.group(1))


def from_indirect(asked: str, answer: str) -> list[str]:
    """Sentences from such a question: "where I parked the car" gives "You parked the car on level 3."."""
    match = _INDIRECT.fullmatch(asked)
    if match is None:
        return []
    asks_for, said = match.group(1).lower(), to_you(match.group(2))
    last = plain(said.split()[-1])
    ends_in_verb = last in _ENDS_IN_BE or has_verb(f"it {last}")
    if asks_for == "where":
        links = ("",) if last in PREPOSITIONS else before_place(answer)
    elif asks_for == "when" or asks_for.split()[-1] in TIME_NOUNS:
        links = before_time(answer)
    elif asks_for in ("how", "how often") or ends_in_verb or last in PREPOSITIONS:
        links = ("",)
    else:
        return []
    return [f"{said} {link}{answer}" for link in links]
