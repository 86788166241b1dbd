"""The English words by which a simple question is read, and those that link its words to an answer. Data and lookups."""

from __future__ import annotations

import re

from spear_core.inference.answer_sentences import PREPOSITIONS
from spear_core.inference.hint_words import COMMON_VERBS, plain_words, words_in

# Those that follow the subject of an everyday question; another word may be its noun ("my little sister")
VERBS = COMMON_VERBS | words_in(
    """arrive attend believe bring depart die earn fall hate have join love park prefer prepare ride say sing smell spend study
    support taste tell think want"""
)
BE = words_in("is are was were am isn't aren't wasn't weren't")
_IRREGULAR = {"have": "has", "be": "is"}
_PLURALS = {"is": "are", "was": "were", "has": "have"}
_PAST = dict(
    pair.split(":")
    for pair in words_in(
        """be:was become:became begin:began break:broke bring:brought build:built buy:bought catch:caught choose:chose
        come:came cost:cost cut:cut do:did drink:drank drive:drove eat:ate fall:fell feel:felt find:found fly:flew
        forget:forgot get:got give:gave go:went grow:grew have:had hear:heard hit:hit hold:held hurt:hurt keep:kept
        know:knew lead:led leave:left let:let lose:lost make:made mean:meant meet:met pay:paid put:put read:read
        ride:rode run:ran say:said see:saw sell:sold send:sent set:set shut:shut sing:sang sit:sat sleep:slept
        speak:spoke spend:spent stand:stood steal:stole swim:swam take:took teach:taught tell:told think:thought
        throw:threw wake:woke wear:wore win:won write:wrote bleed:bled dig:dug feed:fed forgive:forgave freeze:froze hang:hung
        lend:lent quit:quit shrink:shrank swear:swore understand:understood"""
    )
)
MEASURING = words_in("cost earn measure need pay take weigh")  # "it takes 20 minutes to ..."
SUBJECTS = words_in("you he she they we i")
OBJECTS = words_in("you him her them us")
DEMONSTRATIVES = words_in("this that these those")  # they may stand alone: "how long does this take"
DETERMINERS = words_in("my our your his her its their the a an") | DEMONSTRATIVES
ADJECTIVES = words_in("best little big older younger oldest youngest old new first second third next last")  # of a noun
MOVING = words_in(
    """arriving coming doing drinking driving eating flying going leaving living moving playing returning staying starting studying
    travelling visiting wearing working"""
)
PARTICIPLES = words_in(
    """born built made held found won sent sold kept located called named written founded invented given taken spoken stored stolen
    chosen painted published released established discovered created based married buried killed elected crowned signed introduced
    produced recorded directed designed filmed scheduled planned parked hidden engaged related"""
)
PREDICATES = (
    MOVING
    | PARTICIPLES
    | words_in(
        """afraid allergic available away back bad busy closed due famous fond free full good home interested known open over proud
        ready responsible scared"""
    )
)
NOUNS_IN_ING = words_in(
    "building ceiling evening king meeting morning painting parking ring sibling spring swimming thing training wedding wing"
)
ENDS_AS_PARTICIPLE = re.compile(r"[^e]ed$")
ADVERBS = words_in("always also currently generally mostly normally now often still typically usually")
HERE_AND_NOW = words_in("abroad away downstairs here home nearby nowhere outside there upstairs next") | words_in(
    "always daily early every each last later never now often once soon this today tomorrow tonight twice weekly yesterday"
)
MAY_FOLLOW = PREPOSITIONS | HERE_AND_NOW | words_in("best first if most when while")  # an object
# "The sky is blue", not "Blue is the sky"
QUALITIES = words_in("age brand color colour kind nationality shape size sort type")
_HOUR = r"(?:\d{1,2}|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|noon|midnight)"
_CLOCK = re.compile(
    rf"(?:\d{{1,2}}(?:[:.]\d\d|h\d{{0,2}})?\s*(?:[ap]\.?m\.?|o['’]clock)?|midday|{_HOUR}(?: o['’]clock)?"
    rf"|(?:half|(?:a )?quarter|five|ten|twenty|twenty-five|\d{{1,2}}) (?:past|to|after) {_HOUR})"
    r"(?: (?:sharp|at night|in the (?:morning|afternoon|evening)))?\.?$",
    re.IGNORECASE,
)
_WEEKDAY = re.compile(r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b", re.IGNORECASE)
_MONTH = r"(?:january|february|march|april|may|june|july|august|september|october|november|december)"
_MONTH_OR_YEAR = re.compile(rf"(?:{_MONTH}\s*)?(?:\d{{4}})?\.?$", re.IGNORECASE)
_DATE = re.compile(
    rf"\d{{1,2}}[./-]\d{{1,2}}[./-]\d{{2,4}}\b|(?:the )?\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}\b|{_MONTH} \d{{1,2}}\b",
    re.IGNORECASE,
)


def before_time(answer: str) -> tuple[str, ...]:
    """What may stand before a time."""
    if {*plain_words(answer)[:1]} & (PREPOSITIONS | HERE_AND_NOW):
        return ("",)
    if _CLOCK.match(answer):
        return ("at ",)
    if _WEEKDAY.match(answer) or _DATE.match(answer):
        return ("on ",)
    return ("in ",) if _MONTH_OR_YEAR.match(answer) else ("", "at ", "in ", "on ")


def before_place(answer: str) -> tuple[str, ...]:
    """What may stand before a place."""
    if {*plain_words(answer)[:1]} & (PREPOSITIONS | HERE_AND_NOW):
        return ("",)
    may_be_adverb = answer.islower() and len(answer.split()) == 1
    return ("at ", "in ", "on ", *(("",) if may_be_adverb else ()))


def third_person(verb: str) -> str:
    """The form of a verb after "he": "lives", "goes", "carries"."""
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    if re.search(r"(?:[sxzo]|ch|sh)$", verb):
        return verb + "es"
    return verb[:-1] + "ies" if re.search(r"[^aeiou]y$", verb) else verb + "s"


def past(verb: str) -> str:
    """The past of a verb: "went", "moved", "tried", "stopped"."""
    if verb in _PAST:
        return _PAST[verb]
    if verb.endswith("e"):
        return verb + "d"
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ied"
    return verb + verb[-1] + "ed" if re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", verb) else verb + "ed"


def plural(verb: str) -> str:
    """The form of a verb after "they" or "you", from the one after "he": "are", "have", "live", "go"."""
    if verb in _PLURALS:
        return _PLURALS[verb]
    if re.search(r"(?:[sxo]|ch|sh|zz)es$", verb):
        return verb[:-2]
    return re.sub(r"ies$", "y", verb) if verb.endswith("ies") else re.sub(r"(?<=[^s])s$", "", verb)


def is_verb(word: str) -> bool:
    """Whether a word is the base or the past of a verb that is known here."""
    return word in VERBS or word in _PAST
