"""Sentences with a stated answer in the words of a question with "do", "did" or "should". Text only.

"What does my cat eat?" gives "Your cat eats tuna.", and "How many days do I have left?" gives "You have 11 days left.". The verb
is found after a pronoun, among the words that are known as one, or at the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from spear_core.inference.answer_sentences import LONGEST_SENTENCE, PREPOSITIONS, to_you
from spear_core.inference.fact_questions import TIME_NOUNS
from spear_core.inference.hint_words import plain_words, words_in
from spear_core.inference.question_words import (
    ADVERBS,
    DEMONSTRATIVES,
    DETERMINERS,
    HERE_AND_NOW,
    MAY_FOLLOW,
    MEASURING,
    OBJECTS,
    SUBJECTS,
    VERBS,
    before_place,
    before_time,
    is_verb,
    past,
    third_person,
)
from spear_core.inference.refusal_words import is_number
from spear_core.inference.sentence_parts import around, joined

LONGEST_DOER = 3  # words of the subject
_ANY = re.IGNORECASE | re.DOTALL
# "What kind of music", "which floor"
THING = r"(?:what|which)(?:\s+(?!(?:is|are|was|were|am|do|does|did|my|our|the|your)\b)[\w'’-]+){1,5}?"
_DOING = "do|does|did|have|has|should|can|could|will|would|must"
_DO_QUESTION = re.compile(
    rf"^(how(?:\s+(?:often|long|far|much))?|where|when|who|what|which|{THING})\s+({_DOING})\s+(.+)$", _ANY
)
_JOB_QUESTION = re.compile(r"^what\s+(do|does)\s+(.+?)\s+do(?:\s+for\s+(?:a\s+living|work))?$", _ANY)
_MANY_QUESTION = re.compile(r"^how\s+many\s+([\w' -]{1,40}?)\s+(do|does|did)\s+([^,]+)$", _ANY)
_NO_ARTICLE = words_in("bed church college dinner kindergarten lunch school town university work")  # after "to"
_WANTING = words_in("hate have like love need plan prefer try want")  # before "to work" as a verb
_DOES = re.compile(r"^(?:.+\s)?(?:does|did)\s+(.+)$", _ANY)


def from_do_question(asked: str, answer: str) -> list[str] | None:
    """The sentences; None where the question is of another kind."""
    if match := _JOB_QUESTION.match(asked):
        if not re.match(r"an?\b", answer, re.I):  # not a job
            return []
        return [f"{to_you(match.group(2))} {'is' if match.group(1).lower() == 'does' else 'are'} {answer}"]
    if match := _MANY_QUESTION.match(asked):
        return _counted(match.group(1), match.group(2).lower(), to_you(match.group(3)).split(), answer)
    if match := _DO_QUESTION.match(asked):
        return _done(match.group(1).lower(), match.group(2).lower(), to_you(match.group(3)).split(), answer)
    return None


def doer(asked: str) -> str:
    """Who or what does it: "your sister" of "where does my sister live"; empty where that is not known."""
    match = _DOES.match(asked)
    words = to_you(match.group(1)).split() if match else []
    at = _verb_place([word.lower() for word in words]) if words else 0
    return " ".join(words[:at])


def declared(do: str, words: Sequence[str]) -> str:
    """The statement in a question with "do", "does" or "did", of the words after it: "your back hurts"; empty if not known."""
    at = _verb_place([word.lower() for word in words]) if len(words) > 1 else 0
    return " ".join([*words[:at], _conjugated(do, words[at]), *words[at + 1 :]]) if at else ""


def _verb_place(words: Sequence[str]) -> int:
    """Where the verb stands in the words after "do"; 0 where it is not known."""
    if words[0] in {*SUBJECTS, "it"}:
        return next((i for i in range(1, len(words)) if words[i] not in ADVERBS), 0)
    last = len(words) - 1
    is_last = is_verb(words[last]) or last == 1 + (words[0] in DETERMINERS)  # "my passport expire", "Ana nap"
    first = 1 + (words[0] in DETERMINERS - DEMONSTRATIVES)  # "our support line closes": a noun follows
    known = (i for i in range(first, min(last, LONGEST_DOER) + 1) if words[i] in VERBS)
    # "did Anna last visit Europe", but "does the film last"
    return next((i for i in known if words[i] != "last" or i == last), last if is_last else 0)


def _conjugated(do: str, verb: str) -> str:
    """The verb with the ending that "do", "does" or "did" has in its question, or after the "should"."""
    changed = {"do": verb, "does": third_person(verb), "did": past(verb)}
    return changed.get(do, f"{do} {verb}")


def _counted(noun: str, do: str, words: list[str], answer: str) -> list[str]:
    """Sentences for "how many NOUN do WORDS?": "You have 11 vacation days left."."""
    lower = [word.lower() for word in words]
    at = _verb_place(lower) if len(words) > 1 else 0
    if not at or len(words) > LONGEST_SENTENCE:
        return []
    begun = " ".join([*words[:at], _conjugated(do, words[at])])
    said = plain_words(answer.partition(", ")[0])
    counts = all(is_number(word) or word in ("about", "only", "and", "a") for word in said)
    if said[-1:] in (["one"], ["1"]):
        return []  # "one cup", where the question has "cups"
    return [around(begun, answer, joined(noun if counts else "", " ".join(words[at + 1 :])))]


def _done(asks_for: str, do: str, words: list[str], answer: str) -> list[str]:
    """Sentences for "ASKS_FOR do(es) WORDS?". The answer to "what" or "who" follows the verb; none where that is not known."""
    if len(words) < 2 or len(words) > LONGEST_SENTENCE:
        return []
    lower = [word.lower() for word in words]
    at = _verb_place(lower)
    is_known = do in ("do", "does", "did") or (asks_for == "how long" if do in ("have", "has") else " " not in asks_for)
    if not at or not is_known:
        return []
    words = [*words[:at], _conjugated(do, words[at]), *words[at + 1 :]]
    is_time = asks_for == "when" or asks_for.split()[-1] in TIME_NOUNS
    if is_time or asks_for in ("where", "how", "how often") or lower[-1] in PREPOSITIONS:
        links = before_time(answer) if is_time else ("",)
        if asks_for == "where" and lower[-1] not in PREPOSITIONS:
            links = before_place(answer)
        return [joined(" ".join(words), link + answer) for link in links]
    if asks_for.startswith("how"):
        place = _after_measured(lower, at)
        link = "for " if asks_for == "how long" and lower[at] not in MEASURING and lower[at] != "last" else ""
        link = "" if {*plain_words(answer)[:1]} & PREPOSITIONS else link
    else:
        place, link = _after_object(lower, at), ""
    if not place:
        return []
    rest = " ".join(words[place:])
    return [joined(" ".join(words[:place]), link + (answer.rstrip(".") if rest else answer), rest)]


def _after_measured(words: Sequence[str], at: int) -> int:
    """Where the answer to "how long" or "how much" stands in words whose verb is at `at`; 0 where it is not known."""
    place = at + 1
    if words[at] in MEASURING and words[place : place + 1] and words[place] in OBJECTS:
        place += 1  # "it takes you 20 minutes to ..."
    if place == len(words) or words[place] in MAY_FOLLOW:
        return place
    return 0 if words[at] in MEASURING else len(words)


def _after_object(words: Sequence[str], at: int) -> int:
    """Where the answer to "what" or "who" stands in words whose verb is at `at`; 0 where it is not known."""
    if words[at + 1 : at + 2] == ["to"] and {*words[at + 2 : at + 3]} & _NO_ARTICLE and words[at] not in _WANTING:
        return at + 1  # "take to work"
    while words[at] != "use" and words[at + 1 : at + 2] == ["to"] and words[at + 2 : at + 3] and words[at + 2] in VERBS:
        at += 2  # "need to buy"
    after = words[at + 1 : at + 3]
    if words[at] in ("call", "name") and after and after[0] in DETERMINERS | OBJECTS:
        return len(words)
    is_left = after[:1] and after[0] in ("about", "of", "on", "to", "with")  # not "at home", "for today"
    if (
        len(after) == 2
        and after[0] in PREPOSITIONS
        and (after[1] in PREPOSITIONS or is_left and after[1] in HERE_AND_NOW)
    ):
        return at + 2  # "talk to about the heating"
    if after and after[0] not in MAY_FOLLOW:
        return 0
    is_verb_next = len(after) == 2 and after[0] == "to" and after[1] not in DETERMINERS
    return 0 if is_verb_next else at + 1
