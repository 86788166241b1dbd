"""Whether a question is about something that was named before it ("And how old is she?"). Rules of English words; no model.

A word that points back does so within the question where that names what is meant first: in "How does my husband take his
tea?" and "Where do birds go when they are cold?" nothing is left open. Where the rules cannot tell, the question leans on
what was said: it is then read with it, which costs time, not sense.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from spear_core.training.neighbours import content_words

SUBJECTS = frozenset(("he", "she", "it", "they"))
POSSESSIVES = frozenset(("his", "its", "their"))
DEMONSTRATIVES = frozenset(("this", "that", "these", "those", "there"))
POINTING_BACK = SUBJECTS | POSSESSIVES | DEMONSTRATIVES | {"him", "them", "her"}  # "her" may be a possessive

_BE = frozenset(("is", "are", "was", "were", "be", "been", "isn't", "aren't", "wasn't", "weren't"))
_DO = frozenset(("do", "does", "did", "don't", "doesn't", "didn't"))
# begin a clause whose subject may be somebody named before it; not "that" or "where": "Did Anna say where it is?"
_CONJUNCTIONS = frozenset(
    ("when", "while", "because", "before", "after", "since", "until", "till", "if", "although", "though", "and", "but")
)
_NOW_WORDS = """
year month week weekend day morning afternoon evening night season quarter term spring summer autumn winter time
"""
_NOW = frozenset(_NOW_WORDS.split())  # "this year" is now, whatever was said
_CLOCK = frozenset(("time", "day", "date", "month", "year"))  # "What time is it in Tokyo?"
_IMPERSONAL = frozenset(("take", "takes", "took", "cost", "costs", "mean", "means", "hurt", "hurts"))
# "Is it close to the station?" asks of something, "Is it dangerous to swim?" of swimming
_OF_SOMETHING_WORDS = """
going able used supposed likely meant allowed due close near next similar related connected equal open up down
"""
_OF_SOMETHING = frozenset(_OF_SOMETHING_WORDS.split())
_INDEFINITE_WORDS = "someone somebody anyone anybody everyone something anything everything all one"
_INDEFINITE = frozenset(_INDEFINITE_WORDS.split())
_CLAUSE_WORDS = "i you we he she it they my our your the a an has have had can will would could"
_BEGINS_CLAUSE = frozenset(_CLAUSE_WORDS.split()) | _BE  # after "that": "the seat that I booked"
_WEATHER = frozenset(("rain", "rains", "raining", "rained", "snow", "snows", "snowing", "snowed"))
_NEAR_SUBJECT = 3  # words after "does" among which its subject stands
_TOLD = 4  # content words of what was said before a pause, from which on it names something
_I = ("I", "I'", "I’")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_NO_WORD = re.compile(r"[.,;:!?()]")


@dataclass(frozen=True)
class _Word:
    text: str  # in lower case, without a possessive ending
    is_name: bool
    is_content: bool
    after_pause: bool  # punctuation stands before it


def leans_on_history(question: str) -> bool:
    """Whether a question is about something that was named before it."""
    if not content_words(question):
        return True
    words = _words(question)
    return any(word.text in POINTING_BACK and not _is_resolved(words, i) for i, word in enumerate(words))


def _words(text: str) -> list[_Word]:
    found: list[_Word] = []
    end = 0
    is_shouted = text.isupper()
    for match in _WORD.finditer(text):
        raw = match.group()
        after_pause = bool(_NO_WORD.search(text, end, match.start()))
        begins = end == 0 or bool(re.search(r"[.!?]", text[end : match.start()]))
        lower = re.sub(r"['’](?:s|re|ll|d)$", "", raw.lower())
        end = match.end()
        if raw == "IT" and not is_shouted:
            lower = "IT"  # the department
        is_name = raw[0].isupper() and not (begins or is_shouted) and lower not in POINTING_BACK and raw[:2] not in _I
        found.append(_Word(lower, is_name, bool(content_words(raw)), after_pause))
    return found


def _is_resolved(words: list[_Word], i: int) -> bool:
    """Whether the word at `i`, which may point back, is about something in its own question, or about nothing at all."""
    word = words[i].text
    after = words[i + 1].text if i + 1 < len(words) else ""
    if _told_before(words, i) >= _TOLD:
        return True
    if word in DEMONSTRATIVES:
        return _is_no_demonstrative(words, i)
    if word == "it" and _is_impersonal(words, i):
        return True
    named = _named_before(words, i)
    if named is None:
        return False
    if word in POSSESSIVES or word == "her" and after and (words[i + 1].is_content or after == "own"):
        return True
    if word in SUBJECTS and after:
        return any(w.after_pause or w.text in _CONJUNCTIONS for w in words[named + 1 : i + 1])
    return False


def _told_before(words: list[_Word], i: int) -> int:
    """Content words of the question before the last pause: "The tax office wants our VAT number, what is it?"."""
    pause = max((k for k in range(i + 1) if words[k].after_pause), default=0)
    return sum(w.is_content for w in words[:pause])


def _named_before(words: list[_Word], i: int) -> int | None:
    """Place of the last thing named before the word at `i`: a name, "my ..." or the subject after "does"."""
    for k in range(i - 1, -1, -1):
        before = [w.text for w in words[max(0, k - _NEAR_SUBJECT) : k]]
        is_ours = bool({"my", "our"} & set(before[-2:]))
        if words[k].is_name or words[k].is_content and (is_ours or bool(_DO & set(before))):
            return k
    return None


def _is_no_demonstrative(words: list[_Word], i: int) -> bool:
    word = words[i].text
    before = words[i - 1].text if i else ""
    after = words[i + 1].text if i + 1 < len(words) else ""
    if word == "this":
        return after in _NOW
    if word == "there":  # "Is there ...?", "How many planets are there?"
        counts = [w.text for w in words[:2]] in (["how", "many"], ["how", "much"])
        return before in _BE and (bool(after) or counts) or after in _BE
    if word == "that" and i and after:  # "the seat that I booked", "a jar that sticks"
        begins_clause = words[i + 1].is_name or after in _BEGINS_CLAUSE or after.endswith(("s", "ed"))
        return after in ("i", "we", "my", "our") or begins_clause and (words[i - 1].is_content or before in _INDEFINITE)
    return False


def _is_impersonal(words: list[_Word], i: int) -> bool:
    """Whether this "it" stands for nothing: "What time is it?", "How long does it take to get to work?"."""
    before = [w.text for w in words[max(0, i - 2) : i]]
    after = [w.text for w in words[i + 1 :]]
    if len(before) == 2 and before[0] in _CLOCK and before[1] in _BE or _WEATHER & set(after[:2]):
        return True
    if "to" not in after:
        return False
    if after[0] in _IMPERSONAL:
        return True
    return bool(before) and before[-1] in _BE and not (_OF_SOMETHING & set(after[: after.index("to")]))
