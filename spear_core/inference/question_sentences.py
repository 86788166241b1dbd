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
    TO_BE,
    gives_reason,
    last_question,
    sentence,
    to_you,
)
from spear_core.inference.do_questions import THING, declared, from_do_question
from spear_core.inference.fact_questions import TIME_NOUNS
from spear_core.inference.hint_words import AUXILIARIES, plain_words
from spear_core.inference.indirect_questions import asked_last, from_indirect, is_indirect, within_request
from spear_core.inference.question_words import (
    ADJECTIVES,
    BE,
    DETERMINERS,
    ENDS_AS_PARTICIPLE,
    MAY_FOLLOW,
    MOVING,
    NOUNS_IN_ING,
    PARTICIPLES,
    PREDICATES,
    QUALITIES,
    SUBJECTS,
    before_place,
    before_time,
    plural,
)
from spear_core.inference.sentence_parts import around, is_clause, joined

LONGEST_SUBJECT = 8  # words of the subject of a question for a reason
_ANY = re.IGNORECASE | re.DOTALL
_IS_QUESTION = re.compile(rf"^(what|who|where|when|{THING})(?:['’]s|\s+(is|are|was|were|am))\s+(.+)$", _ANY)
_IN_WHAT = re.compile(r"^(?:in|on|at)\s+(?=(?:what|which)\s+\w+\s+(?:do|does|did)\b)", re.I)
_WHY_QUESTION = re.compile(
    r"^why\s+(is|are|was|were|am|can|could|should|must|will|would|do|does|did|(?:is|are|was|were|do|ca|could|should|wo|would)n['’]t)\s+(.+)$",
    _ANY,
)
_MEASURE_QUESTION = re.compile(
    r"^how\s+(old|long|far|tall|high|big|wide|deep|heavy|fast|expensive|late)\s+(is|are|was|were|am)\s+(.+)$", _ANY
)
_COUNT_QUESTION = re.compile(r"^how\s+many\s+(.+)$", _ANY)
_SUBJECT_QUESTION = re.compile(r"^(?:who|which\s+\w+|what\s+\w+)\s+(\w+)\s+(.+)$", _ANY)
_BEFORE_NOUN = {"of", "in", "for", "by"}
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


def from_question(question: str, answer: str) -> list[str]:
    """Sentences from the words of a simple question: "What is my sister's name?" gives "Your sister's name is Ana.".

    A question for a reason gives one for each place at which its subject may end, and most of them are no sentences: "Why is
    the sea salty?" gives "The sea is salty because ..." and "The is sea salty because ...". The model chooses.
    """
    typed = _IN_WHAT.sub("", asked_last(question))
    asked = within_request(typed)
    if gives_reason(question, answer):
        found = _reasons(asked, answer)
    elif is_clause(answer) or answer.lower() == "yours":
        found = []
    elif is_indirect(asked, is_request=asked != typed):
        found = from_indirect(asked, answer)
    elif (done := from_do_question(asked, answer)) is not None:
        found = done
    elif match := _MEASURE_QUESTION.match(asked):
        found = _measured(match.group(1).lower(), match.group(2).lower(), to_you(match.group(3)).split(), answer)
    elif match := _COUNT_QUESTION.match(asked):
        is_known = not set(plain_words(asked)) & _INVERTED and not _COUNTED_IS.search(asked)
        found = [around("", answer, to_you(match.group(1)))] if is_known else []
    elif match := _IS_QUESTION.match(asked):
        verb = (match.group(2) or "is").lower()
        verb = plural(verb) if _is_several(asked, answer) and match.group(3).split()[0].endswith("ing") else verb
        found = _being(match.group(1).lower(), verb, to_you(match.group(3)).split(), answer)
    elif match := _SUBJECT_QUESTION.match(asked):
        rest = [word for word in (match.group(1), *match.group(2).split()) if word.islower()]
        no_verb = PREPOSITIONS | DETERMINERS | SUBJECTS
        has_relative = bool({*plain_words(answer)} & {"who", "which", "that"})
        has_verb = (
            not has_relative
            and match.group(1).lower() not in no_verb
            and not {*rest} & (AUXILIARIES | {"am", "must", "shall"})
        )
        verb = plural(match.group(1)) if _is_several(asked, answer) else match.group(1)
        found = [around("", answer, f"{verb} {to_you(match.group(2))}")] if has_verb else []
    else:
        found = []
    return [sentence(text) for text in dict.fromkeys(found) if len(text.split()) <= LONGEST_SENTENCE]


def _is_several(asked: str, answer: str) -> bool:
    """Whether an answer to "who" is "you" or names several people, after which a verb is in the plural."""
    has_more = re.search(r"\band (?:your|his|her|their|the|an?|[A-Z]\w+)\b", answer)
    return asked[:3].lower() == "who" and (answer.lower() == "you" or has_more is not None)


def being(asked: str) -> str:
    """The subject of a question with "to be": "the deadline" of "when is the deadline"; empty where it is not known."""
    match = _IS_QUESTION.match(asked)
    words = to_you(match.group(3)).split() if match else []
    is_thing = match is not None and match.group(1).lower() not in ("where", "when")
    return " ".join(words[: _subject_end(words, is_thing)]) if words else ""


def is_begun_by(text: str, head: str) -> bool:
    """Whether a sentence begins with these words, as far as their letters go."""
    words = plain_words(head)
    return plain_words(text)[: len(words)] == words


def affirmed(question: str, answer: str) -> list[str]:
    """The "yes" to a question of yes or no that ends in the answer: "Is a tomato a fruit?" gives "Yes, a tomato is a fruit."."""
    verb, *rest = to_you(last_question(question).rstrip("?!. ")).split() or [""]
    count = len(answer.split())
    if verb.lower() not in BE or not count < len(rest) or plain_words(" ".join(rest[-count:])) != plain_words(answer):
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
    if verb in ("does", "did"):
        return [f"{stated} {answer}"] if (stated := declared(verb, words)) else []
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
    if first in ("wrong", "new", "up") and {*words[1:2]} & {
        "with",
        "about",
        "at",
        "in",
    }:  # "What's wrong with the car?"
        return []
    is_doing = first.endswith("ing") and first not in NOUNS_IN_ING
    is_predicate = (
        is_doing
        or first in PREDICATES
        and (first in MOVING | PARTICIPLES or words[1:2] and words[1].lower() in MAY_FOLLOW)
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
    if is_thing and lower[0] in DETERMINERS and {*lower[1:]} & SUBJECTS:  # "the project you are working on"
        return len(words)
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
        words[i]
        for i in begins
        if lower[i - 1] not in _BEFORE_NOUN  # "the head of marketing"
        and (words[i].endswith("ing") or i == last and ENDS_AS_PARTICIPLE.search(words[i]))
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
    if measure == "far" and lower[0] == "it" and lower[1:2] != ["that"]:  # "How far is it to the station?"
        return [joined("it", verb, answer.rstrip("."), " ".join(words[1:]) or "away")]
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
