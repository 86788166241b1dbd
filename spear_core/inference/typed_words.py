"""Words as they are written: "im" is "I'm", "on friday" is "on Friday", and a name has the capital that a reply gives it. Text only.

Only what cannot be another word is changed: "were", "well" and "ill" stay, and "may" is a month only beside a number or after a
word such as "in".
"""

from __future__ import annotations

import re

from spear_core.inference.hint_words import words_in

_WITH_APOSTROPHE = {
    "im": "I'm", "ive": "I've", "youre": "you're", "youve": "you've", "hes": "he's", "shes": "she's", "theyre": "they're",
    "weve": "we've", "theyve": "they've", "thats": "that's", "theres": "there's",
    **{f"{word}s": f"{word}'s" for word in ("what", "who", "where", "when", "how")},
    **{f"{verb}nt": f"{verb}n't" for verb in words_in(
        "do does did is are was were has have had could would should ca wo"
    )},
}  # fmt: skip
_TYPED = re.compile(rf"(?<![\w'’@./-])(?:{'|'.join(_WITH_APOSTROPHE)})(?![\w'’@/-])", re.I)
_WE_ARE = re.compile(r"^((?:no|nope|actually|well)?\W*)were(?=\s+(?:not\s+)?(?:going|\w{2,}ing)\b)", re.I)
_IT_IS = re.compile(
    r"(?<=[,;.!] )its(?=\s+(?:\d|(?:the|an?|not|in|on|at|called|actually|my|our|about|from|for)\b))", re.I
)
_NO_WORD_BEFORE, _NO_WORD_AFTER = r"(?<![\w@#/.'’-])", r"(?![\w@#/-]|\.\w)"
_CALENDAR = re.compile(
    rf"{_NO_WORD_BEFORE}(?:(?:mon|tues|wednes|thurs|fri|satur|sun)days?"
    rf"|january|february|april|june|july|august|september|october|november|december){_NO_WORD_AFTER}"
)
_BEFORE_MONTH = "|".join(
    rf"(?<={before}\s)"
    for before in (r"\bin", r"\bsince", r"\buntil", r"\d", r"\d(?:st|nd|rd|th)", r"\d(?:st|nd|rd|th) of")
)
_MONTH_OR_WORD = re.compile(
    rf"{_NO_WORD_BEFORE}(?:(?:{_BEFORE_MONTH})(?:march|may)|(?:march|may)(?=\s+\d)){_NO_WORD_AFTER}"
)
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][^\W_]+(?: [A-Z][^\W_]+)*")  # not at the beginning of a sentence


def with_apostrophes(text: str) -> str:
    """The text with the apostrophes that people leave out: "shes 7", "dont", "whats"."""

    def written(match: re.Match[str]) -> str:
        new = _WITH_APOSTROPHE[match.group().lower()]
        return new[0].upper() + new[1:] if match.group()[0].isupper() else new

    return _IT_IS.sub("it's", _WE_ARE.sub(r"\1we're", _TYPED.sub(written, text)))


def with_calendar_capitals(text: str) -> str:
    """The text with weekdays and months as English writes them."""

    def capital(match: re.Match[str]) -> str:
        return match.group().capitalize()

    return _MONTH_OR_WORD.sub(capital, _CALENDAR.sub(capital, text))


def with_names_of(reply: str, text: str) -> str:
    """The text with the capitals of the names that the reply writes with one: "Poland", "New York", if it says so."""
    for name in {*_NAME.findall(reply)}:
        lower = re.escape(name.lower())
        if not re.search(rf"\b{lower}\b", reply):
            text = re.sub(rf"(?<!\bmy )(?<!\bour )(?<!\ba )\b{lower}\b", name, text)
    return text
