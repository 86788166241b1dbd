"""The English words by which a refusal is told, and a message that gives the answer to it. Data and lookups."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TO_ANSWER = (
    "provide|access|share|give|tell|answer|determine|know|find|recall|disclose|help|assist|see|remember|say|identify|look|"
    "retrieve|confirm|reveal|offer|guess|comment|respond|discuss"
)
REFUSAL = re.compile(
    rf"(?<!you're )(?<!you are )\b(?:un|not )able to (?:\w+ )?(?:{_TO_ANSWER})\b"
    rf"|\bi (?:can't|cannot|can not|couldn't|won't|will not|am not allowed to) (?:\w+ )?(?:{_TO_ANSWER})\b"
    r"|\bi (?:don't|do not|dont|didn't|did not) (?:\w+ )?(?:have|know|possess|store|keep|remember|recall)\b"
    r"|\b(?:i'm|i am|as) (?:just |only |merely )?an? (?:[\w-]+ ){0,3}(?:ai|language model|assistant|chatbot)\b"
    r"|\b(?:i'm|i am) (?:here|designed|programmed) (?:only )?to (?:help|assist|provide)\b"
    r"|\bnot (?:equipped|designed|programmed|allowed|permitted) to\b"
    r"|\bsorry for (?:any|the) (?:confusion|misunderstanding|mistakes?|inconvenience)\b|\bi'm sorry, but\b|\bi'm afraid\b"
    r"|\bi have (?:no|never) (?:\w+ )?(?:access|way|information|knowledge|record|idea|memory|data|met|been)\b"
    r"|\b(?:i'm|i am) not (?:sure|aware|certain|familiar)\b"
    r"|\byou (?:have not|haven't|did not|didn't) (?:\w+ )?(?:told|tell|mentioned?|provided?|shared?|specified|specify|say|said)\b"
    r"|\b(?:is|are|was|were|has|have) not (?:been )?(?:provided|given|specified|mentioned|available|known)\b",
    re.IGNORECASE,
)
ADVERBS = frozenset(
    """well outside alone everywhere always often never sometimes today yesterday daily much every day very too really
    so""".split()  # noqa: SIM905
)
PRONOUNS = frozenset("it it's its that's thats he he's his she she's her they they're their".split())  # noqa: SIM905
FILLERS = frozenset(
    """no nope nah wrong incorrect false actually well oh hmm hm hey but so please remember fact sorry btw fyi just again really
    right answer correct then there""".split()  # noqa: SIM905
)
# Words of a message about the conversation, the assistant or the refusal: no answer has them.
ABOUT_THE_TALK = frozenset(
    """you your yours you're youre you've information info data access private privacy public permission allowed ai bot model
    assistant told said mentioned asked already joking kidding""".split()  # noqa: SIM905
)
# Words that alone are no answer to a question of fact.
NO_ANSWERS = frozenset(
    """fine ok okay easy simple hard important legal illegal possible impossible true false nothing something anything else none
    secret unknown pity shame sad silly stupid ridiculous annoying weird odd strange funny nice good bad great urgent enough
    complicated different better worse best late soon later sick ill dead gone here new old lost broken safe harmless useless
    bye goodbye stop wait very so too quite bit all really sure fair right wrong interesting amazing cool cute beautiful
    lovely angry happy tired busy know mean kind personal normal question thing way problem matter joke forget never mind whatever
    understood noted come on seriously i'm i'll i'd""".split()  # noqa: SIM905
)
# begin questions that "no" does not answer
NOT_YES_OR_NO = frozenset("what what's which who who's where where's when when's why how how's".split())  # noqa: SIM905
UNITS = frozenset(
    """years year old cm m metre metres meter meters kg kilo kilos feet foot inches pounds months
    minute minutes hour hours days weeks km miles kilometres kilometers litres liters euros dollars percent""".split()  # noqa: SIM905
)
PLACES = frozenset(
    "in at on near under behind by from inside outside above below between next beside opposite to".split()  # noqa: SIM905
)
TIMES = frozenset(
    """monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays saturdays sundays
    january february march april may june july august september october november december spring summer autumn winter
    noon midnight tomorrow today tonight morning afternoon evening night christmas easter weekend week daily weekly""".split()  # noqa: SIM905
)
NUMBERED = frozenset(
    "apartment building bus channel flat floor gate house level line lot number platform room row seat terminal track".split()  # noqa: SIM905
)  # before a number that is no time: "platform 3"
# Of a wish, a guess or a condition: what they are said of need not be so
UNREAL = frozenset(
    """almost hope hopes if maybe might nearly perhaps want wanted wants wish would i'd""".split()  # noqa: SIM905
)
_NUMBERS = frozenset(
    """one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million dozen half first second third
    once twice""".split()  # noqa: SIM905
)

_VERBS = {
    **{f"{who}'s": (who, "is") for who in ("it", "he", "she", "that", "there")},
    **{f"{who}'re": (who, "are") for who in ("they", "we", "you")},
    **{f"{who}'ve": (who, "have") for who in ("i", "we", "they")},
    **{"i'm": ("i", "am"), "im": ("i", "am"), "its": ("it", "is"), "thats": ("that", "is")},
}


def is_number(word: str) -> bool:
    """Whether a word is a number, in figures or letters."""
    return word in _NUMBERS or any(c.isdigit() for c in word)


def is_adverb(word: str) -> bool:
    """Whether a word says how or when something is done; of those in -ly, names like "Emily" too."""
    return word.endswith("ly") or word in ADVERBS


def with_verbs_apart(words: Sequence[str]) -> list[str]:
    """The words with "it's" and "I've" as two."""
    return [part for word in words for part in _VERBS.get(word, (word,))]
