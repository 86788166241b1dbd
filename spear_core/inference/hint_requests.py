"""Whether a hint asks for another form or content of a reply, and does not state an answer. No model.

"shorter", "in French please" and "use simpler words" ask; "I use a Mac", "dry white wine" and "more than 50" state. What was
asked decides the rest: after "When do I leave?", "leave at 7" is an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from spear_core.inference.correction_words import asks_for_a_fact
from spear_core.inference.hint_words import (
    AFTER_ORDERS,
    COMPARATIVES,
    DEGREES,
    FORMS,
    LANGUAGES,
    NOUNS_TOO,
    POLITE,
    REQUEST_STARTS,
    STYLES,
    STYLES_OF_TEXTS,
    TEXTS,
    WISHES,
    after_phrases,
    plain_words,
    stem,
    words_in,
)

_OF_WISHING = words_in("want need like prefer wish")
_OF_LANGUAGES = words_in("language languages speak")
_BEFORE_FORMS = words_in("in as with without only one two three no")
_HOW_SOMEBODY_IS = re.compile(r"\bhow(?:['’]?s| is| are| was| were) (?:my|our|he|she|they)\b", re.I)


def asks_for_another_form(words: Sequence[str], begin: int, announced: bool, question: str) -> bool:
    """Whether it asks for another form or content. "I use a Mac", "name is Luna" and "dry white wine" do not."""
    asked = {*plain_words(question)}
    is_fact = asks_for_a_fact_or_favourite(question) or _HOW_SOMEBODY_IS.search(question) is not None
    at = after_phrases(words, begin, POLITE)
    wished = after_phrases(words, at, WISHES, most=1)
    is_wish = at < wished < len(words)
    if words[min(at, len(words) - 1)] in ("i", "we") and (not is_wish or asked & _OF_WISHING):
        return False
    at = min(after_phrases(words, wished, POLITE | DEGREES), len(words) - 1)
    rest, start, near = words[at:], words[at], {*words[at : at + 6]}
    if is_fact or "or" in asked:  # "Is it dry or sweet?"
        near -= asked
    if start in near & (STYLES | COMPARATIVES):
        return _is_style(rest, is_fact and words[at - 1 : at] != ["be"])
    if start in ("very", "so", "not") and near & (STYLES | COMPARATIVES):
        return True
    if (start == "in" or is_wish and "in" in near) and near & LANGUAGES:
        language = next(n for n, word in enumerate(rest) if word in LANGUAGES)
        return not asked & _OF_LANGUAGES and (not is_fact or _is_over(rest[language + 1 :]))
    if (start in _BEFORE_FORMS or is_wish and start != "to") and near & FORMS:
        return True
    return not (announced or is_wish) and _is_order(rest, is_fact and "you" not in words[begin:at], asked)


def _is_over(rest: Sequence[str]) -> bool:
    """Whether nothing follows, or nothing but words about a text."""
    return not rest or rest[0] in TEXTS | FORMS


def _is_style(rest: Sequence[str], is_fact: bool) -> bool:
    """Whether a style word or a comparative is about the reply: it stands alone, or another one or a word for a text follows."""
    start, following = rest[0], (rest[1:] or [""])[0]
    if following == "than":
        return {*rest[2:3]} <= {"this", "that", "it", "before", "i", "we", "expected"}
    is_alone = (
        _is_over(rest[1:]) or following in STYLES | COMPARATIVES or following.endswith("ly") or rest[-1] == "please"
    )
    is_alone = is_alone or not is_fact and following in ("one", "ones")
    if start in COMPARATIVES:
        return is_alone or not is_fact or start == "too" or following in AFTER_ORDERS
    return is_alone and (start in STYLES_OF_TEXTS or not is_fact or bool(following))


def _is_order(rest: Sequence[str], is_fact: bool, asked: set[str]) -> bool:
    """Whether it tells the model what to do. Asked "When do I leave?", "leave at 7" answers."""
    start, following = rest[0], (rest[1:] or [""])[0]
    if start not in REQUEST_STARTS or following in ("is", "was"):
        return False
    if not is_fact:
        return True
    if start in asked and asked & {"i", "we", "my", "our"}:
        return False
    goes_on = following in {"", *AFTER_ORDERS, *FORMS, *STYLES, *COMPARATIVES, *LANGUAGES}
    return start not in NOUNS_TOO or goes_on or following.endswith(("ly", "ing"))


def asks_for_a_fact_or_favourite(question: str) -> bool:
    """Whether one of its sentences asks for a fact, or for what the person likes best."""
    sentences = (plain_words(sentence) for sentence in re.split(r"[.!?]", question))
    return any(asks_for_a_fact([word for word in words if stem(word) != "favour"]) for words in sentences if words)
