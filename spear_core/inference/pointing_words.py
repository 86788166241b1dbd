"""The words by which `pointing_back.py` reads a question."""

from __future__ import annotations

import re

SUBJECTS = frozenset(("he", "she", "it", "they"))
POSSESSIVES = frozenset(("his", "its", "their"))
OBJECTS = frozenset(("him", "them", "her"))  # "her" may be a possessive
DEMONSTRATIVES = frozenset(("this", "that", "these", "those", "there"))
POINTING_BACK = SUBJECTS | POSSESSIVES | OBJECTS | DEMONSTRATIVES | {"theirs", "hers"}

BE = frozenset(("is", "are", "was", "were", "be", "been", "isn't", "aren't", "wasn't", "weren't"))
DO = frozenset(("do", "does", "did", "don't", "doesn't", "didn't"))
BEFORE_NOUNS = DO | {"my", "our", "a", "an"}
_ASKING = """
what which who whose whom when where why how is are was were do does did can could will would should has have had
"""
ASKING = frozenset(_ASKING.split())
OPENINGS = ASKING | {"whats"}
PREPOSITIONS = frozenset(("in", "of", "for", "at", "on", "from", "by", "with", "to"))
# begin a clause whose subject may be somebody named before it; not "that" or "where": "Did Anna say where it is?"
CONJUNCTIONS = frozenset(
    ("when", "while", "because", "before", "after", "since", "until", "till", "if", "although", "though", "and", "but")
)
FEMININE = frozenset(
    "mother mum mom sister daughter wife aunt grandmother grandma girlfriend niece woman girl lady".split()  # noqa: SIM905
)
MASCULINE = frozenset(
    "father dad brother son husband uncle grandfather grandpa boyfriend nephew man boy".split()  # noqa: SIM905
)
PLURAL = frozenset(("people", "children", "team", "family", "police", "men", "women", "staff", "everyone", "someone"))
# of the conversation, not of the world: "Thanks for the detailed explanation, ..."
_TALK = """
thanks thank thx great good nice cool okay answer help explanation sorry detailed really please lot love perfect wrong
right hello hey wow interesting
"""
TALK = frozenset(_TALK.split())

# "the second point", "step 3": of something that was said
ORDINALS = frozenset(("first", "second", "third", "fourth", "fifth", "sixth", "last", "next", "other"))
PIECES = frozenset(
    """point line paragraph part sentence step example option question item tip verse section version answer
    suggestion""".split()  # noqa: SIM905
)
ELLIPSES = (
    re.compile(r"^(?:and |but |so |or |ok |okay )*(?:what|how) about\b"),
    re.compile(r"^(?:and |but |so )*what if\b"),
    re.compile(r"^(?:and )?(?:the )?same\b(?! \w+ as)"),
    re.compile(r"\b(?:who|what|where|anything|something|anyone|somebody|nothing|everything) else\b"),
    re.compile(r"\b(?:which|another|each|any|no) one\b"),
    re.compile(r"\bthe (?:\w+ )?ones?\b(?! (?:that|who|which))"),
    re.compile(r"\b(?:is|was) there (?:\w+ )?(?:\w+ )?one\b(?! \w+ (?:of|a)\b)"),
    re.compile(r"\b(?:the|any) others\b"),
    re.compile(r"\banother(?: (?:one|example|way|version|idea|reason))?(?: please)?$"),
    re.compile(r"\b(?:next|then|again)(?: please)?$"),
    re.compile(r"^(?:are you |\w+ )?(?:continue|shorter|longer|simpler|really|sure)(?: please)?$"),
)  # of the words alone, in lower case

NOW = frozenset(
    """year month week weekend day morning afternoon evening night season quarter term spring summer autumn winter
    time""".split()  # noqa: SIM905
)  # "this year" is now, whatever was said
CLOCK = frozenset(("time", "day", "date", "month", "year"))  # "What time is it in Tokyo?"
IMPERSONAL = frozenset(("take", "takes", "took", "cost", "costs", "mean", "means", "hurt", "hurts"))
WEATHER = frozenset(
    """rain rains raining rained snow snows snowing snowed cold hot warm dark light sunny windy cloudy
    late""".split()  # noqa: SIM905
)
# "Is it close to the station?" asks of something, "Is it dangerous to swim?" of swimming
OF_SOMETHING = frozenset(
    """going able used supposed likely meant allowed due close near next similar related connected equal open up
    down""".split()  # noqa: SIM905
)
INDEFINITE = frozenset(
    "someone somebody anyone anybody everyone something anything everything all one".split()  # noqa: SIM905
)
# after "that": "the seat that I booked"
BEGINS_CLAUSE = BE | frozenset(
    "i you we he she it they my our your the a an has have had can will would could".split()  # noqa: SIM905
)
