"""Questions of fact, in the person's own words: what kind of answer they ask for, and which words a statement of it repeats.

"What's my cat called?", "do you know my cat's name?", "tell me when my train leaves". Read from the words alone. No model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from spear_core.inference.answer_sentences import last_question
from spear_core.inference.correction_words import ADVICE
from spear_core.inference.hint_words import AUXILIARIES, SMALL_WORDS, phrases, plain_words, stem, without_contractions

# Openings before the question itself.
REQUESTS = phrases(
    "(hey|hi|hello|ok|okay|so|and|please|) (do|can|could|would|will) you (please|happen to|still|maybe|) "
    "(know|remember|recall|guess|say|name|tell me|give me|remind me of|remind me) (please|again|)",
    "(hey|hi|hello|ok|okay|so|and|please|) (tell|give|remind) me (again|please|)",
    "(hey|hi|hello|ok|okay|so|and|please)",
    "i (forgot|forget|wonder|do not remember|want to know|would like to know)",
)
PERSON = frozenset("i me my mine myself we us our ours".split())  # noqa: SIM905
BE = frozenset("is are am was were".split())  # noqa: SIM905
DO = frozenset(["do", "does", "did"])
OWN = frozenset(["my", "our"])
HABITS = frozenset(["take", "like", "drink", "spell", "pronounce"])  # what "how do I ..." asks of, if not for advice
FAVOURITE = frozenset(["favourite", "favorite"])
BEST = frozenset(
    [
        ("best", "friend"),
        ("best", "friend's"),
        ("best", "friends"),
        ("best", "mate"),
        ("best", "mate's"),
        ("best", "man"),
    ]
)  # persons
MEASURES = frozenset("many much long far old tall high fast deep often heavy big large".split())  # noqa: SIM905
TIME_NOUNS = frozenset("time day date year month hour".split())  # noqa: SIM905
PLACE_NOUNS = frozenset("city town country street place room school village address street continent".split())  # noqa: SIM905
FILLERS = frozenset("again please then there right really exactly actually".split())  # noqa: SIM905


class Asked(Enum):
    """What a question of fact asks for."""

    NUMBER = "number"
    TIME = "time"
    PLACE = "place"
    NAME = "name"
    OTHER = "other"


@dataclass(frozen=True)
class FactQuestion:
    """A question of fact as it was read.

    Attributes:
        kind: of the answer.
        content: stems of the words that a statement of the answer repeats.
        owned: those of them that name the person's own, for which a pronoun may stand: "cat" of "my cat".
        is_personal: whether it is about the person who asks.
        has_be: whether its verb is a form of "to be", which a statement then has too.
    """

    kind: Asked
    content: frozenset[str]
    owned: frozenset[str]
    is_personal: bool
    has_be: bool


def key(word: str) -> str:
    """As `stem`; the ways to say what something is called are one word."""
    return "name" if stem(word) in ("called", "named", "name") else stem(word)


def read_question(question: str) -> FactQuestion | None:
    """A question with one answer, as far as its words tell; else None."""
    words = without_contractions(plain_words(last_question(question)))
    begin = next((n for n in range(min(len(words), 10), 0, -1) if tuple(words[:n]) in REQUESTS), 0)
    words = words[begin:]
    is_personal = bool({*words} & PERSON)
    of_advice = {
        word
        for word, after in zip(words, [*words[1:], ""], strict=True)
        if word in ADVICE and (word, after) not in BEST
    }
    if not words or of_advice - FAVOURITE or (of_advice & FAVOURITE and not is_personal):
        return None
    kind, rest = _kind(words)
    if kind is None:
        if not (words[0] in ("my", "our", "the") and is_personal):
            return None
        kind, rest = Asked.OTHER, words  # "tell me my cat's name"
    content = [key(w) for w in rest if w not in SMALL_WORDS | AUXILIARIES | FILLERS | PERSON]
    if "name" in content and kind is Asked.OTHER:
        kind = Asked.NAME
    elif rest is words and len(content) < 2:
        return None  # "do you know my cat?" asks for nothing of it
    owned = [key(b) for a, b in zip(rest, rest[1:], strict=False) if a in ("my", "our")]
    owned = [noun for noun in owned if noun != "name"]
    return FactQuestion(kind, frozenset(content), frozenset(owned), is_personal, rest is words or bool({*rest} & BE))


def _kind(words: Sequence[str]) -> tuple[Asked | None, list[str]]:
    """What is asked for, and the words of the question that a statement would repeat; None for no question of fact."""
    at = 1 if words[0] in ("in", "on", "at", "from", "to", "by", "for", "of") and len(words) > 1 else 0
    first, rest = words[at], list(words[at + 1 :])
    if first == "how" and rest and rest[0] in MEASURES:
        return Asked.NUMBER, rest[1:]
    if first == "how" and rest and rest[0] in ("is", "are", "am") and {"called", "named"} & {*rest}:
        return Asked.NAME, rest
    if first == "how" and len(rest) > 2 and rest[0] in DO and (rest[1] in OWN or rest[2] in HABITS):
        return Asked.OTHER, rest[1:]  # "how does my husband take his tea", not "how do I get rid of ants"
    if first in ("when", "where"):
        return Asked.TIME if first == "when" else Asked.PLACE, rest
    if first in ("who", "whose", "whom", "what", "which"):
        noun = next((n for n, word in enumerate(rest[:3]) if word in AUXILIARIES), 0)
        if {*rest[:noun]} & (PERSON | {"the"}):
            noun = 0  # "what my cat is called"
        named = {*rest[:noun]}  # "which city do I live in": a statement need not repeat "city"
        if named & TIME_NOUNS:
            return Asked.TIME, rest[noun:]
        if named & PLACE_NOUNS:
            return Asked.PLACE, rest[noun:]
        return Asked.OTHER, rest[noun:]
    return None, []
