"""Whether a question is about something that was named before it ("And how old is she?"). Rules of English words; no model.

A word that points back does so within the question where that names what is meant first: in "How does my husband take his
tea?" and "Where do birds go when they are cold?" nothing is left open. Where the rules cannot tell, the question leans on
what was said: it is then read with it, which costs time, not sense. A question in another language stands alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from spear_core.inference import pointing_words as words_of
from spear_core.training.neighbours import WORD, content_words

LONGEST = 1_000  # characters of a message that are looked at: what is longer names what it is about
_NEAR_SUBJECT = 3  # words after "does" among which its subject stands
_TOLD = 4  # content words before a pause, from which on they name something
_FEWEST_CONTENT_WORDS = 2  # of a question that begins like the end of another one
_PAUSE = re.compile(r"[.,;:!?()]")
_SENTENCE_END = re.compile(r"[.!?]")
_ENDING = re.compile(r"'(?:s|re|ll|d|ve|m)$")


@dataclass(frozen=True)
class _Word:
    text: str  # in lower case, without the ending of a contraction
    is_name: bool
    is_content: bool
    after_pause: bool  # punctuation stands before it
    before_colon: bool  # what it stands for may follow: "Translate this: ..."
    told: int  # content words before the last pause, or the last "and" with a question


def leans_on_history(question: str) -> bool:
    """Whether a question is about something that was named before it. Takes time in proportion to its length."""
    text = question[:LONGEST].replace("’", "'")
    words = _words(text)
    if not content_words(text) and not (words and _is_about_you_or_me(words)):
        return True
    return _is_elliptic(words) or any(
        word.text in words_of.POINTING_BACK and not _is_resolved(words, i) for i, word in enumerate(words)
    )


def _is_about_you_or_me(words: list[_Word]) -> bool:
    """Whether a question without content words is about the person or the model: "What is my name?", "Who are you?"."""
    texts = [w.text for w in words]
    return texts[0] in words_of.OPENINGS and bool({"my", "your", "you", "me", "i"} & {*texts[1:]}) and len(texts) > 2


def _words(text: str) -> list[_Word]:
    found: list[_Word] = []
    matches = list(WORD.finditer(text))
    lower = [_ENDING.sub("", m.group().lower()) for m in matches]
    is_shouted = text.isupper()
    asks = bool(lower) and lower[0] in words_of.OPENINGS
    end = content = told = 0
    colon = text.rfind(":")
    for i, match in enumerate(matches):
        raw, gap = match.group(), text[end : match.start()]
        begins = i == 0 or bool(_SENTENCE_END.search(gap))
        pause = i > 0 and bool(_PAUSE.search(gap))
        joined = lower[i] in ("and", "but", "so") and i + 1 < len(lower) and lower[i + 1] in words_of.OPENINGS
        if pause or joined:
            told = _TOLD if joined and asks and content else content  # "What is yeast and why is it alive?"
        is_it = raw == "IT" and not is_shouted or lower[i] == "it" and i > 0 and lower[i - 1] in ("our", "the", "an")
        word = "IT" if is_it else lower[i]
        is_name = raw[0].isupper() and not (begins or is_shouted) and word not in words_of.POINTING_BACK | {"i"}
        is_content = bool(content_words(raw))
        end = match.end()
        found.append(_Word(word, is_name, is_content, pause, end <= colon, told))
        content += is_content and word not in words_of.TALK
    return found


def _is_elliptic(words: list[_Word]) -> bool:
    """Whether words are left out that the question before it has: "And of Spain?", "Which one?", "What else?"."""
    texts = [w.text for w in words]
    line = " ".join(texts)
    if any(pattern.search(line) for pattern in words_of.ELLIPSES):
        return True
    for a, b in zip(texts, texts[1:], strict=False):
        if a in words_of.ORDINALS and b in words_of.PIECES or a in ("step", "point", "option") and b.isdigit():
            return True
    starts = next((i for i, text in enumerate(texts) if text not in ("and", "but", "or")), 0)
    rest = words[starts:]
    content = sum(w.is_content for w in rest)
    if starts and (rest[0].text not in words_of.OPENINGS or content < _FEWEST_CONTENT_WORDS):
        return True  # "And the population?"
    return rest[0].text in words_of.PREPOSITIONS | {"which"} and content < _FEWEST_CONTENT_WORDS  # "In what year?"


def _is_resolved(words: list[_Word], i: int) -> bool:
    """Whether the word at `i`, which may point back, is about something in its own question, or about nothing at all."""
    word = words[i]
    if word.told >= _TOLD or word.before_colon and word.text in words_of.DEMONSTRATIVES | {"it"}:
        return True
    if word.text in words_of.DEMONSTRATIVES:
        return _is_no_demonstrative(words, i)
    if word.text == "it" and _is_impersonal(words, i) or word.text == "they" and _are_people_of(words, i):
        return True
    after = words[i + 1] if i + 1 < len(words) else None
    owns = word.text in words_of.POSSESSIVES or (
        word.text == "her" and after is not None and (after.is_content or after.text == "own")
    )
    named = _named_before(words, i, _fits(word.text))
    if named is None or owns:
        return named is not None
    return any(w.after_pause or w.text in words_of.CONJUNCTIONS for w in words[named + 1 : i + 1])


def _fits(pronoun: str) -> Callable[[_Word], bool]:
    """Whether a word may be what the pronoun stands for, by gender and number as far as the word tells."""
    if pronoun in ("they", "them", "their"):
        return lambda w: w.text.endswith("s") or w.text in words_of.PLURAL
    if pronoun in ("he", "him", "his"):
        return lambda w: w.text not in words_of.FEMININE
    if pronoun in ("she", "her"):
        return lambda w: w.text not in words_of.MASCULINE
    return lambda w: True


def _named_before(words: list[_Word], i: int, fits: Callable[[_Word], bool]) -> int | None:
    """Place of the last thing named before the word at `i`: a name, "my ...", "a ...", somebody, the subject after "does"."""
    for k in range(i - 1, -1, -1):
        word, near = words[k], words[max(0, k - _NEAR_SUBJECT) : k]
        if not fits(word) or word.text in words_of.TALK:
            continue
        at = next((n for n in reversed(range(len(near))) if near[n].text in words_of.BEFORE_NOUNS), None)
        is_noun = at is not None and not any(w.is_content for w in near[at + 1 :])
        if word.is_name or word.text in words_of.PLURAL or word.is_content and is_noun:
            return k
    return None


def _is_no_demonstrative(words: list[_Word], i: int) -> bool:
    word = words[i].text
    before = words[i - 1].text if i else ""
    after = words[i + 1].text if i + 1 < len(words) else ""
    if word == "this":
        return after in words_of.NOW
    if word == "there":  # "Is there ...?", "How many planets are there?"
        counts = [w.text for w in words[:2]] in (["how", "many"], ["how", "much"])
        return before in words_of.BE and (bool(after) or counts) or after in words_of.BE
    if word == "that" and i and after and not words[i].after_pause:  # "the seat that I booked", "a jar that sticks"
        if after in ("i", "we", "my", "our"):
            return True
        begins_clause = words[i + 1].is_name or after in words_of.BEGINS_CLAUSE or after.endswith(("s", "ed"))
        return begins_clause and (words[i - 1].is_content or before in words_of.INDEFINITE)
    return False


def _is_impersonal(words: list[_Word], i: int) -> bool:
    """Whether this "it" stands for nothing: "What time is it?", "How long does it take to get to work?"."""
    before = [w.text for w in words[max(0, i - 2) : i]]
    after = [w.text for w in words[i + 1 : i + 1 + LONGEST // 10]]
    is_be = bool(before) and before[-1] in words_of.BE
    if len(before) == 2 and before[0] in words_of.CLOCK and is_be:
        return not after or after[0] in ("in", "now", "at")
    if words_of.WEATHER & {*after[:2]} or is_be and "that" in after[1:2]:  # "Is it true that ...?"
        return True
    if after and after[0] in words_of.IMPERSONAL and {*after[1:]} & {"when", "if"}:
        return True
    if "to" not in after:
        return False
    at = after.index("to")
    if len(after) - at < 3:  # "Is it safe to drink?"
        return False
    return after[0] in words_of.IMPERSONAL or is_be and not (words_of.OF_SOMETHING & {*after[:at]})


def _are_people_of(words: list[_Word], i: int) -> bool:
    """Whether this "they" are the people of a place: "What money do they use in Japan?"."""
    after = words[i + 1 :]
    return any(a.text in ("in", "at") and b.is_name for a, b in zip(after, after[1:], strict=False))
