"""Replies that refuse or do not know, and whether a message after one gives the answer that it withheld. No model.

After "I'm unable to provide that" there is no wrong answer to object to, and people protest, give up or go on: "no, you
can", "never mind", "my cat is ill, what can I do". A message counts only where it gives what the question asked for, of
the kind that it asked for: "no, it's called Luna", "my cat is called Luna", for "when" a time, for "how many" a number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from itertools import pairwise

from spear_core.inference import refusal_words as words_of
from spear_core.inference.answer_sentences import last_question
from spear_core.inference.correction_words import OPINIONS, REACTIONS
from spear_core.inference.fact_questions import BE, FAVOURITE, PERSON, Asked, FactQuestion, key, read_question
from spear_core.inference.hint_words import (
    AUXILIARIES,
    REQUEST_STARTS,
    SMALL_WORDS,
    content_words,
    plain_words,
    without_contractions,
)
from spear_core.inference.hints import Hint
from spear_core.inference.sentence_ends import NEXT_SENTENCE

MOST_NEW_WORDS = 6  # of a message besides those of the question
PAST = frozenset(["was", "were"])
MOST_BARE_WORDS = 3  # of an answer that repeats nothing of the question
_FURTHER_CLAUSE = re.compile(
    r"\b(?:because|although|while|(?:and|but|so) (?:i|you|he|she|it|we|they|my|now|please))\b", re.I
)


class Fit(Enum):
    """How well a message gives the answer."""

    NONE = 0
    PERHAPS = 1  # it may be the answer alone
    STATES = 2


def refuses(reply: str) -> bool:
    """Whether a reply says that it cannot or may not answer, or does not know."""
    return words_of.REFUSAL.search(reply.replace("’", "'")) is not None


def fit(question: str, reply: str, message: str, hint: Hint, objection: bool) -> Fit:
    """How well a message gives the answer that `reply` withheld.

    Args:
        question: that was asked.
        reply: refuses.
        message: the person's next one.
        hint: the message as it was read; it states something.
        objection: whether the message begins by saying that the reply is wrong.
    """
    asked = read_question(question)
    typed = plain_words(message)
    answer = content_words(hint.answer)
    if asked is None or _goes_on(hint.answer) or {*typed} & words_of.ABOUT_THE_TALK or {*answer} <= words_of.NO_ANSWERS:
        return Fit.NONE
    if not objection and not holds(question, message):
        return Fit.NONE
    said = _content(typed)
    new = said - asked.content
    if not new or len(new) > MOST_NEW_WORDS or ({*typed} - FAVOURITE - {*plain_words(question)}) & OPINIONS:
        return Fit.NONE
    main = next((w for w in typed if w not in words_of.FILLERS), "")
    is_pronoun = main in words_of.PRONOUNS  # "it's called Luna" stands for "my cat is called Luna"
    content = asked.content - asked.owned if is_pronoun else asked.content
    stands_for = 1 if is_pronoun and {*typed[1:]} & {"it", "them"} else 0  # "he takes it black", of his tea
    missing = content - said
    # "my mum's number is 0664 ..." of her phone number
    is_short = asked.is_personal and len(content) > 2 and len(missing) == 1 and not missing & asked.owned
    is_whole = len(missing) <= stands_for or is_short and any(c.isdigit() for c in hint.answer)
    is_statement = bool(content & said) and is_whole and _is_about(asked, typed, is_pronoun)
    is_statement = is_statement and _has_its_subject(asked, plain_words(last_question(question)), typed)
    if is_statement and _is_of_kind(asked.kind, typed, hint.answer):
        is_called = bool({*typed} & {"called", "named"})
        if asked.kind is Asked.NAME and not is_called and message[:1].isupper() and hint.answer.islower():
            return Fit.NONE  # "His name is difficult."
        if asked.kind is Asked.OTHER and all(words_of.is_adverb(w) for w in typed if key(w) in new):
            return Fit.NONE  # "He takes it very seriously."
        is_named = _has_name(hint.answer) and len(answer) <= MOST_BARE_WORDS
        if asked.is_personal and (objection or is_named or len(content) > 1 or asked.kind is not Asked.OTHER):
            return Fit.STATES
        return Fit.STATES if objection else Fit.PERHAPS
    is_measured = asked.is_personal and asked.kind is Asked.NUMBER and bool(content & said)  # "it takes me 25 minutes"
    if is_measured and is_pronoun and _is_of_kind(asked.kind, typed, hint.answer) and {*typed} & words_of.UNITS:
        return Fit.STATES
    if objection and is_pronoun and not {*answer} & PERSON:
        is_name = _has_name(hint.answer) and len(answer) <= MOST_BARE_WORDS
        is_typed = asked.kind in (Asked.NUMBER, Asked.TIME, Asked.PLACE)
        if _is_of_kind(asked.kind, typed, hint.answer) and (is_typed or is_name):
            return Fit.STATES
    if asks_back(reply, objection):
        return Fit.NONE  # it answers what the model asked
    return _short(asked, typed, answer, hint, is_pronoun, objection)


def asks_back(reply: str, objection: bool) -> bool:
    """Whether a reply ends in a question that the next message may answer. An objection ("no, ...") answers no "what" or "who"."""
    if not reply.rstrip().endswith("?"):
        return False
    return not (objection and {*plain_words(last_question(reply))[:1]} & words_of.NOT_YES_OR_NO)


def is_exact(question: str, answer: str) -> bool:
    """Whether an answer is the time or number that was asked for and nothing else: "May 2019", which has no other meaning."""
    asked, exact = read_question(question), words_of.TIMES | words_of.UNITS | {"am", "pm"}
    is_sought = asked is not None and asked.kind in (Asked.TIME, Asked.NUMBER)
    return is_sought and all(words_of.is_number(word) or word in exact for word in content_words(answer))


def holds(question: str, statement: str) -> bool:
    """Whether a statement says what is so: not what was, what is denied, wished or guessed, unless the question asks for that."""
    asked, typed = with_verbs_apart(question), with_verbs_apart(statement)
    if ({*typed} & words_of.UNREAL) - {*asked} or ("used", "to") in pairwise(typed) and "used" not in asked:
        return False
    new = {*typed} - {*asked}
    is_denied = "never" in new or any(word.endswith("n't") for word in new)
    is_denied |= (
        "not" in new and "but" not in typed and any(b == "not" and a in AUXILIARIES | BE for a, b in pairwise(typed))
    )
    is_past = {*typed} & PAST and not {*typed} & (BE - PAST)
    return not is_denied and not (is_past and {*asked} & BE and not {*asked} & PAST)


def with_verbs_apart(text: str) -> list[str]:
    """The words of a text with "it's" as two."""
    return words_of.with_verbs_apart(without_contractions(plain_words(text)))


def _short(
    asked: FactQuestion, typed: list[str], answer: list[str], hint: Hint, is_pronoun: bool, objection: bool
) -> Fit:
    """Of a message that does not repeat the question: "Luna", "it's Luna", "I'm 34"."""
    if not _is_of_kind(asked.kind, typed, hint.answer):
        return Fit.NONE
    if asked.kind is Asked.NUMBER and not asked.content:  # "how old am I?"
        is_age = all(w in words_of.UNITS | {"i'm"} or words_of.is_number(w) for w in answer)
        return Fit.STATES if is_age else Fit.NONE
    if not (asked.is_personal or objection) or {*typed} & (PERSON | REACTIONS - {"no"}):
        return Fit.NONE
    is_bare = len(answer) == len([w for w in typed if w not in words_of.FILLERS])
    return Fit.PERHAPS if len(answer) <= MOST_BARE_WORDS and (is_pronoun or is_bare) else Fit.NONE


def _is_about(asked: FactQuestion, typed: Sequence[str], is_pronoun: bool) -> bool:
    """Whether a message with all words of the question is about the same: "my birthday is", not "my birthday party is"."""
    apart = words_of.with_verbs_apart(typed)
    if asked.is_personal and not is_pronoun and not {*apart} & PERSON:
        return False
    if asked.kind is Asked.NUMBER and not {*apart} & {"have", "got", *BE}:
        return False
    if asked.kind is Asked.NUMBER and not asked.has_be:
        nouns = [b for a, b in zip(apart, apart[1:], strict=False) if words_of.is_number(a)]
        return bool({*apart} & {"have", "got"}) or bool({key(noun) for noun in nouns} & asked.content)
    if not asked.has_be:
        return True
    at = next((i for i, word in enumerate(apart) if word in BE), None)
    if at is None:
        return False
    before, after = _content(apart[:at]), _content(apart[at + 1 :])
    return before <= asked.content or after <= asked.content  # "Luna is my cat's name"


def _has_its_subject(asked: FactQuestion, question: Sequence[str], typed: Sequence[str]) -> bool:
    """Whether a statement is about the one whom the question asks about: "I live in", not "my sister lives in"."""
    apart = words_of.with_verbs_apart(typed)
    for owner, thing, verb in zip(apart, apart[1:], apart[2:], strict=False):
        is_owned = (
            owner.endswith("'s")
            and owner not in question
            and key(owner) in asked.owned
            and key(thing) not in asked.content
        )
        if is_owned and (verb in BE or key(verb) in asked.content):
            return False  # "my sister's husband lives in", asked of the sister
    at = next((i for i, word in enumerate(question) if word in ("i", "we")), None)
    main = next((w for w in apart if w not in words_of.FILLERS), "")
    verb = question[at + 1] if at is not None and at + 1 < len(question) else ""
    if (
        at is None or main in ("it", "that") or verb == "have" and asked.owned
    ):  # "my appointment is" of "do I have my appointment"
        return True
    return bool({*apart} & {"i", "we"}) and not {*typed} & {f"{verb}s", f"{verb}es"}


def _has_name(answer: str) -> bool:
    """Whether one of its words has a capital or a digit. "I" and "I'm" are no names."""
    words = [word for word in answer.split() if word.partition("'")[0] != "I"]
    return any(c.isdigit() or c.isupper() for word in words for c in word)


def _content(words: Sequence[str]) -> set[str]:
    return {key(w) for w in words if w not in SMALL_WORDS | words_of.FILLERS}


def _goes_on(answer: str) -> bool:
    """Whether something else follows the answer: a second sentence, a request, a clause of its own."""
    if NEXT_SENTENCE.search(answer) or _FURTHER_CLAUSE.search(answer):
        return True
    _, *later = re.split(r",\s*", answer)
    return any((plain_words(part) or [""])[0] in REQUEST_STARTS for part in later)


def _is_of_kind(kind: Asked, typed: Sequence[str], answer: str) -> bool:
    """Whether a message has what such a question asks for: a number, a time, a place, a name."""
    words = {*typed}
    if kind is Asked.NUMBER:
        return any(map(words_of.is_number, typed))
    if kind is Asked.TIME:
        before = ["", *typed]
        return bool(words & words_of.TIMES) or any(
            words_of.is_number(word) and before[i] not in words_of.NUMBERED for i, word in enumerate(typed)
        )
    if kind is Asked.PLACE:
        return _names_place(typed) and not words & words_of.TIMES
    if kind is Asked.NAME:
        return not {*plain_words(answer)} & (words_of.NO_ANSWERS | {"to"})
    return True


def _names_place(typed: Sequence[str]) -> bool:
    """Whether something that is no number of its own follows a preposition: "at 12 Main Street", not "in 1984"."""
    for i, word in enumerate(typed):
        rest = [w for w in typed[i + 1 : i + 4] if w not in ("the", "a", "an")]
        if word in words_of.PLACES and rest:
            ends = len(rest) == 1 or rest[1] in words_of.UNITS | words_of.PLACES | {"am", "pm", "o'clock", "and"}
            if not words_of.is_number(rest[0]) or not ends:
                return True
    return False
