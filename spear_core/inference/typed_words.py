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
# What has one meaning in English; "turkey", "china" and "polish" have two
_COUNTRIES_AND_LANGUAGES = words_in(
    """africa american americans america arabic argentina argentinian asia australia australian austria austrian bangladesh belgian
    belgium brazil brazilian britain british bulgaria bulgarian canada canadian chinese croatia croatian cuba cuban czech danish
    denmark dutch egypt egyptian england english estonia ethiopia europe european finland finnish france french german germany ghana
    greece greek hebrew hindi hungarian hungary iceland icelandic india indian indonesia iran iraq ireland irish israel israeli
    italian italy jamaica jamaican japan japanese kenya kenyan korea korean latvia lebanon lithuania malaysia mexican mexico moroccan
    morocco nepal netherlands nigeria nigerian norway norwegian pakistan pakistani peru philippines poland portugal portuguese romania
    romanian russia russian scotland scottish serbia serbian singapore slovakia slovenia spain spanish sweden swedish switzerland
    syria syrian taiwan thailand turkish ukraine ukrainian venezuela vietnam vietnamese wales welsh zimbabwe
    amsterdam athens baghdad bangkok barcelona beijing belfast berlin birmingham bogota bratislava brisbane bristol brussels bucharest
    budapest cairo cardiff chicago copenhagen delhi dubai dublin edinburgh frankfurt geneva glasgow hamburg helsinki istanbul jakarta
    jerusalem johannesburg krakow leeds lisbon ljubljana london madrid manchester melbourne milan montreal moscow mumbai munich nairobi
    naples oslo paris prague reykjavik riga rome rotterdam salzburg santiago seattle seoul shanghai stockholm stuttgart sydney
    tallinn tokyo toronto vancouver venice vienna vilnius warsaw wellington zagreb zurich"""
)
_PLACES_IN_TWO_WORDS = (
    "new zealand|south africa|south korea|north korea|saudi arabia|sri lanka|costa rica|united states|united kingdom|new york"
    "|hong kong|los angeles|san francisco|buenos aires|rio de janeiro|cape town|kuala lumpur|tel aviv"
)
_PLACE_OR_LANGUAGE = re.compile(
    rf"{_NO_WORD_BEFORE}(?:{_PLACES_IN_TWO_WORDS}|{'|'.join(sorted(_COUNTRIES_AND_LANGUAGES))}"
    rf"|(?<=\bin\s)(?:china|turkey)){_NO_WORD_AFTER}"
)
_EXACT_LETTERS = re.compile(
    r"\b(?:password|passcode|passphrase|pass ?word|log-?in|user ?name|user ?id|handle|hashtag|(?<!dress )code(?: ?word)?|pin"
    r"|wi-?fi|ssid|e-?mail|url|website)\b",
    re.I,
)
_TITLED = re.compile(
    rf"{_NO_WORD_BEFORE}(?P<title>dr|mr|mrs|ms|prof)(?P<between>\.?\s+)(?P<name>[a-z][\w'’-]+){_NO_WORD_AFTER}", re.I
)
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][^\W_]+(?: [A-Z][^\W_]+)*")  # not at the beginning of a sentence


def with_apostrophes(text: str) -> str:
    """The text with the apostrophes that people leave out: "shes 7", "dont", "whats"."""

    def written(match: re.Match[str]) -> str:
        new = _WITH_APOSTROPHE[match.group().lower()]
        return new[0].upper() + new[1:] if match.group()[0].isupper() else new

    return _IT_IS.sub("it's", _WE_ARE.sub(r"\1we're", _TYPED.sub(written, text)))


def with_known_capitals(text: str) -> str:
    """The text with weekdays, months, titles, countries, languages and large cities as English writes them; not of a password."""

    def capital(match: re.Match[str]) -> str:
        return re.sub(r"\b(?!de\b)\w+", lambda word: word.group().capitalize(), match.group())

    if is_about_exact_letters(text):
        return text
    for pattern in (_CALENDAR, _MONTH_OR_WORD, _PLACE_OR_LANGUAGE):
        text = pattern.sub(capital, text)
    return with_title_capitals(text)


def is_about_exact_letters(text: str) -> bool:
    """Whether a text is about a password, a code or a user name, of which every letter has to stay as it is."""
    return _EXACT_LETTERS.search(text) is not None


def with_title_capitals(text: str) -> str:
    """The text with the capitals of a title and of the name after it: "dr. weber" is "Dr. Weber"."""

    def capital(match: re.Match[str]) -> str:
        title, name = (part[0].upper() + part[1:] for part in (match["title"], match["name"]))
        return f"{title}{match['between']}{name}"

    return _TITLED.sub(capital, text)


def with_names_of(reply: str, text: str) -> str:
    """The text with the capitals of the names that the reply writes with one: "Poland", "New York", if it says so."""
    for name in {*_NAME.findall(reply)}:
        lower = re.escape(name.lower())
        if not re.search(rf"\b{lower}\b", reply):
            text = re.sub(rf"(?<!\bmy )(?<!\bour )(?<!\ba )\b{lower}\b", name, text)
    return text
