"""Sentences with a stated answer in the words of a simple question, and none where its words do not tell how. Text only.

A sentence needs the place at which the subject of the question ends ("is my mum | from"), since the verb goes there. It is known
after a pronoun, before words that seldom are nouns (`PREDICATES`), and before a preposition at the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from spear_core.inference.answer_sentences import (
    LONGEST_SENTENCE,
    PREPOSITIONS,
    PRONOUN_VERB,
    TO_BE,
    gives_reason,
    last_question,
    sentence,
    to_you,
)
from spear_core.inference.fact_questions import TIME_NOUNS
from spear_core.inference.hint_words import AUXILIARIES, plain_words, words_in
from spear_core.inference.question_words import (
    ADJECTIVES,
    ADVERBS,
    DETERMINERS,
    ENDS_AS_PARTICIPLE,
    HERE_AND_NOW,
    MAY_FOLLOW,
    MEASURING,
    MOVING,
    NOUNS_IN_ING,
    OBJECTS,
    PARTICIPLES,
    PREDICATES,
    QUALITIES,
    SUBJECTS,
    VERBS,
    before_place,
    before_time,
    third_person,
)

LONGEST_SUBJECT = 8  # words of the subject of a question for a reason
LONGEST_DOER = 3  # of one with "do" or "does"
LONGEST_OVERLAP = 3  # words
_ANY = re.IGNORECASE | re.DOTALL
# "What kind of music", "which floor"
_THING = r"(?:what|which)(?:\s+(?!(?:is|are|was|were|am|do|does|did|my|our|the|your)\b)[\w'’-]+){1,5}?"
_IS_QUESTION = re.compile(rf"^(what|who|where|when|{_THING})(?:['’]s|\s+(is|are|was|were|am))\s+(.+)$", _ANY)
_WHY_QUESTION = re.compile(
    r"^why\s+(is|are|was|were|am|can|could|should|must|will|would|do|(?:is|are|was|were|do|ca|could|should|wo|would)n['’]t)\s+(.+)$",
    _ANY,
)
_DO_QUESTION = re.compile(
    rf"^(how(?:\s+(?:often|long|far|much))?|where|when|who|what|which|{_THING})\s+(do|does)\s+(.+)$", _ANY
)
_MEASURE_QUESTION = re.compile(
    r"^how\s+(old|long|far|tall|high|big|wide|deep|heavy|fast|expensive|late)\s+(is|are|was|were|am)\s+(.+)$", _ANY
)
_HAVE_QUESTION = re.compile(r"^how\s+many\s+([\w' -]{1,40}?)\s+(do|does)\s+(.+?)\s+have$", _ANY)
_COUNT_QUESTION = re.compile(r"^how\s+many\s+(.+)$", _ANY)
_SUBJECT_QUESTION = re.compile(r"^(?:who|which\s+\w+|what\s+\w+)\s+(\w+)\s+(.+)$", _ANY)
_INVERTED = {
    "do",
    "does",
    "did",
    "can",
    "could",
    "will",
    "would",
    "should",
    "must",
    "have",
    "has",
    "had",
    "there",
    "am",
}
_COUNTED_IS = re.compile(
    r"\b(?:is|are|was|were)\s+(?:my|our|your|the|an?|this|that|i|you|we|he|she|it|they|[A-Z]\S*)\b"
)
_SIDES = ("tall", "high", "wide", "deep", "long")  # "1.42 m tall"; not "100 km/h fast"
_SUBORDINATES = words_in("who that which because when where what how if while since whose whom than as")
_BE = words_in("is are was were am isn't aren't wasn't weren't")
_IN_PLACE_OF_VERB = words_in("does do did has is are was were")


def is_clause(answer: str) -> bool:
    """Whether an answer has a subject and a verb of its own: "it was built in 1920", "your dog's name is Bruno"."""
    words = answer.replace("’", "'").strip(".!? ").split()
    plain = [word.strip(",;:").lower() for word in words]
    ends = next((i for i, word in enumerate(plain) if word in _SUBORDINATES and i + 1 < len(plain)), len(plain))
    if plain and PRONOUN_VERB.match(plain[0]) or plain[1:] and plain[-1] in _IN_PLACE_OF_VERB:  # "Ana does"
        return True
    if len(words) > 1 and plain[0] in {*SUBJECTS, "it", "there"} and plain[1] not in ("and", "or"):
        return words[1][:1].islower()  # "We Will Rock You" is a title
    return any(word in _BE - {"am"} for word in plain[1:ends])  # "6 am" is a time


def from_question(question: str, answer: str) -> list[str]:
    """Sentences from the words of a simple question: "What is my sister's name?" gives "Your sister's name is Ana.".

    A question for a reason gives one for each place at which its subject may end, and most of them are no sentences: "Why is
    the sea salty?" gives "The sea is salty because ..." and "The is sea salty because ...". The model chooses.
    """
    asked = last_question(question).rstrip("?!. ")
    if gives_reason(question, answer):
        found = _reasons(asked, answer)
    elif is_clause(answer):
        found = []
    elif match := _HAVE_QUESTION.match(asked):
        subject, verb = to_you(match.group(3)).strip(), "has" if match.group(2).lower() == "does" else "have"
        found = [joined(f"{subject} {verb}", answer.rstrip("."), match.group(1))]
    elif match := _DO_QUESTION.match(asked):
        found = _done(match.group(1).lower(), match.group(2).lower() == "does", to_you(match.group(3)).split(), answer)
    elif match := _MEASURE_QUESTION.match(asked):
        found = _measured(match.group(1).lower(), match.group(2).lower(), to_you(match.group(3)).split(), answer)
    elif match := _COUNT_QUESTION.match(asked):
        is_known = not set(plain_words(asked)) & _INVERTED and not _COUNTED_IS.search(asked)
        found = [joined(answer.rstrip("."), to_you(match.group(1)))] if is_known else []
    elif match := _IS_QUESTION.match(asked):
        verb = (match.group(2) or "is").lower()
        found = _being(match.group(1).lower(), verb, to_you(match.group(3)).split(), answer)
    elif match := _SUBJECT_QUESTION.match(asked):
        rest = [word for word in (match.group(1), *match.group(2).split()) if word.islower()]
        no_verb = PREPOSITIONS | DETERMINERS | SUBJECTS
        is_verb = match.group(1).lower() not in no_verb and not {*rest} & (AUXILIARIES | {"am", "must", "shall"})
        found = [f"{answer.rstrip('.')} {match.group(1)} {to_you(match.group(2))}"] if is_verb else []
    else:
        found = []
    return [sentence(text) for text in dict.fromkeys(found) if len(text.split()) <= LONGEST_SENTENCE]


def joined(*parts: str) -> str:
    """The parts one after the other. Words that end one and begin the next are said once: "is from", "from Graz"."""
    out: list[str] = []
    for part in parts:
        words = part.split()
        for count in range(min(LONGEST_OVERLAP, len(out), len(words)), 0, -1):
            if plain_words(" ".join(out[-count:])) == plain_words(" ".join(words[:count])):
                words = words[count:]
                break
        out += words
    return " ".join(out)


def is_begun_by(text: str, head: str) -> bool:
    """Whether a sentence begins with these words, as far as their letters go."""
    words = plain_words(head)
    return plain_words(text)[: len(words)] == words


def affirmed(question: str, answer: str) -> list[str]:
    """The "yes" to a question of yes or no that ends in the answer: "Is a tomato a fruit?" gives "Yes, a tomato is a fruit."."""
    verb, *rest = to_you(last_question(question).rstrip("?!. ")).split() or [""]
    count = len(answer.split())
    if verb.lower() not in _BE or not count < len(rest) or plain_words(" ".join(rest[-count:])) != plain_words(answer):
        return []
    verb = TO_BE.get(verb.lower(), verb.lower()) if rest[0].lower() == "you" else verb.lower()
    return [sentence(f"Yes, {' '.join(rest[:-count])} {verb} {' '.join(rest[-count:])}")]


def _reasons(asked: str, answer: str) -> list[str]:
    """Sentences for a question that asks why, one for each place at which its subject may end."""
    match = _WHY_QUESTION.match(asked)
    if match is None:
        return []
    verb, words = match.group(1).lower(), to_you(match.group(2)).split()
    if verb == "do":  # "Why do we have leap years?" may be about everybody
        return [f"{subject} {answer}" for subject in dict.fromkeys((" ".join(words), match.group(2).strip()))]
    if len(words) > LONGEST_SENTENCE:
        return []
    verb = TO_BE.get(verb, verb) if words[0].lower() == "you" else verb
    places = range(1, min(len(words), LONGEST_SUBJECT + 1))
    return [f"{' '.join([*words[:i], verb, *words[i:]])} {answer}" for i in places]


def _being(asks_for: str, verb: str, words: list[str], answer: str) -> list[str]:
    """Sentences for "ASKS_FOR is WORDS?"."""
    asks_time = asks_for == "when" or asks_for.split()[-1] in TIME_NOUNS
    is_thing = not asks_time and asks_for != "where"
    first = words[0].lower()
    if first in ("there", "it") or len(words) > LONGEST_SENTENCE:
        return []
    is_predicate = first in PREDICATES and (
        first in MOVING | PARTICIPLES or words[1:2] and words[1].lower() in MAY_FOLLOW
    )
    if (is_predicate or first in PREPOSITIONS) and len(
        words
    ) > 1:  # "Which town is located nearest?": the answer is the subject
        return [f"{answer.rstrip('.')} {verb} {' '.join(words)}"] if is_thing else []
    end = _subject_end(words, is_thing)
    if not end:
        return []
    subject, predicate = " ".join(words[:end]), words[end:]
    begun = f"{subject} {TO_BE.get(verb, verb) if first == 'you' else verb}"
    last = predicate[-1].lower() if predicate else ""
    if last == "like":
        return [f"{begun} {answer}"]
    if predicate:
        begun = f"{begun} {' '.join(predicate)}"
        if is_thing and last not in PREPOSITIONS | MOVING | {"called", "named", "painted"}:
            return []
    if asks_time:
        links = before_time(answer)
        return [joined(begun, link + answer) for link in (*links, *(() if predicate or links == ("at ",) else ("",)))]
    if asks_for == "where":
        return [joined(begun, link + answer) for link in (("",) if last in PREPOSITIONS else before_place(answer))]
    is_quality = {*asks_for.split()} & QUALITIES
    inverse = [f"{answer.rstrip('.')} {verb} {subject}"] if not (predicate or is_quality or first in SUBJECTS) else []
    return [joined(begun, answer), *inverse]


def _subject_end(words: Sequence[str], is_thing: bool) -> int:
    """Where the subject ends of words that follow a form of "to be"; 0 where they do not tell.

    Args:
        words: of the question.
        is_thing: whether it asks what, which or who, and not when or where.
    """
    lower = [word.lower() for word in words]
    last = len(words) - 1
    if lower[0] in SUBJECTS:
        return 1
    if last == 0:
        return 1
    if "like" in lower:  # "What is the weather like in Oslo?"
        return last if lower[last] == "like" else 0
    begins = [i for i in range(1, last + 1) if not _is_noun_after(lower[i - 1])]  # a noun directly follows "the"
    if lower[last] in PREPOSITIONS:
        if last - 1 in begins and lower[last - 1] in PREDICATES:
            return last - 1
        return last if _is_plain(words[:last]) else 0
    for i in begins:
        if lower[i] not in PREDICATES:
            continue
        if i == last or lower[i] in MOVING or not is_thing and lower[i + 1] in MAY_FOLLOW:
            return 0 if is_thing and i < last else i
    may_be_verbs = {
        words[i] for i in begins if words[i].endswith("ing") or i == last and ENDS_AS_PARTICIPLE.search(words[i])
    }
    return 0 if any(word.islower() for word in may_be_verbs - NOUNS_IN_ING) else len(words)


def _is_noun_after(before: str) -> bool:
    return before in DETERMINERS or before.endswith(("'s", "’s", "s'"))


def _is_plain(words: Sequence[str]) -> bool:
    """Whether words are one noun with what goes before it ("my best friend"), or a name."""
    before = [word.lower() for word in words[:-1]]
    return all(_is_noun_after(w) or w in ADJECTIVES for w in before) or all(w[:1].isupper() for w in words)


def _measured(measure: str, verb: str, words: list[str], answer: str) -> list[str]:
    """Sentences for "how MEASURE is WORDS?"."""
    lower = [word.lower() for word in words]
    if lower[0] in ("there", "it") or len(words) > LONGEST_SENTENCE:
        return []
    origin = lower.index("from") if measure == "far" and "from" in lower[1:] else len(words)
    end = _subject_end(words[:origin], is_thing=False)
    if end != origin:
        return []
    begun = f"{' '.join(words[:end])} {TO_BE.get(verb, verb) if lower[0] == 'you' else verb}"
    said, alone = answer.rstrip("."), plain_words(answer)
    if measure in alone:
        return [f"{begun} {answer}"]
    if measure == "far":
        return [joined(begun, said, *(words[origin:] and [" ".join(words[origin:])] or ["away"]))]
    if measure in ("fast", "late"):
        return [f"{begun} {said} late"] if measure == "late" else []
    found = [f"{begun} {answer}"]
    if measure == "old":
        return [*found, f"{begun} {said} years old" if len(alone) == 1 else f"{begun} {said} old"]
    return [*found, f"{begun} {said} {measure}"] if measure in _SIDES else found


def _done(asks_for: str, is_third_person: bool, words: list[str], answer: str) -> list[str]:
    """Sentences for "ASKS_FOR do(es) WORDS?". The answer to "what" or "who" follows the verb; none where that is not known."""
    if len(words) < 2 or len(words) > LONGEST_SENTENCE:
        return []
    lower = [word.lower() for word in words]
    known = (i for i in range(1, min(len(words), LONGEST_DOER + 1)) if lower[i] in VERBS)
    at = next(known, 0)
    if lower[0] in {*SUBJECTS, "it"}:
        at = next((i for i in range(1, len(words)) if lower[i] not in ADVERBS), 0)
    if not at:
        return []
    words = [*words[:at], third_person(words[at]) if is_third_person else words[at], *words[at + 1 :]]
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
    while words[at + 1 : at + 2] == ["to"] and words[at + 2 : at + 3] and words[at + 2] in VERBS:
        at += 2  # "need to buy"
    after = words[at + 1 : at + 3]
    if len(after) == 2 and after[0] in PREPOSITIONS and after[1] in PREPOSITIONS | HERE_AND_NOW:
        return at + 2  # "talk to about the heating"
    if after and after[0] not in MAY_FOLLOW:
        return 0
    is_verb_next = len(after) == 2 and after[0] == "to" and after[1] not in DETERMINERS
    return 0 if is_verb_next else at + 1
