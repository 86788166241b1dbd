"""What a sentence tells beside its main point, as sentences of their own. Text only.

"I have a cat called Pixel and a hamster called Nugget." tells the names of two pets, "My sister Anna is a nurse and she lives in
Berlin." a name, a job and a place. Only what cannot mean something else is read so: "I told my sister Anna is ill" is left alone.
"""

from __future__ import annotations

import re

from spear_core.inference.pronoun_subjects import PEOPLE
from spear_core.inference.refusal_words import TIMES

_I_HAVE = r"(?:I|we)(?:['’]ve got|['’]ve| have got| have| got| own)"
_PHRASE = r"(?:(?!(?:who|whose|with|that|which|and|called|named)\b)[a-z][\w'’-]*\s+){1,3}?"
_NAME = r"[^\W\d][\w'’.-]*(?-i:(?: [A-Z][\w'’.-]*){0,2})"
_NAMED = rf"(?:,\s*)?(?:(?:who(?:['’]s| is)|which is)\s+)?(?:called|named)\s+(?P<name>{_NAME})"
_ONE = rf"an?\s+(?P<noun>{_PHRASE}){_NAMED}"
_HAVE_ONE = re.compile(rf"(?:{_I_HAVE}|(?<!^)(?:,?\s+and|,))\s+{_ONE}", re.I)
_HAVE_SEVERAL = re.compile(
    rf"{_I_HAVE}\s+(?:two|three|four|five|six|seven|eight|nine|ten|\d+)\s+(?P<noun>{_PHRASE})(?:called|named)\s+"
    rf"(?P<name>{_NAME}(?:,\s*{_NAME})*,?\s+and\s+{_NAME})\W*$",
    re.I,
)
_HAVE_AT = re.compile(
    rf"{_I_HAVE}\s+an?\s+(?P<noun>{_PHRASE})(?P<at>(?:on|at|in|from|this|next|tomorrow|today|tonight)\b.*)$", re.I
)
_RELATED = re.compile(
    r"(?P<before>^|\b(?:with|to|for|of|from|and|by)\s+)(?P<owner>(?i:my|our))\s+(?P<noun>(?:[a-z][\w'’-]*\s+){1,2})"
    r"(?P<name>[A-Z][^\W\d_][\w-]*(?: [A-Z][^\W\d_][\w-]*)?)(?=$|[,.!;]|\s+[a-z])"
)
_OWN = re.compile(r"\b(?:my|our)\s+((?:[\w-]+\s+)?[\w-]+)", re.I)
_EVERYBODY = PEOPLE["he"] | PEOPLE["she"]


def told_in_passing(statement: str) -> list[str]:
    """What else a statement says, as statements: "my cat is called Pixel"."""
    found = []
    if several := _HAVE_SEVERAL.match(statement):
        found.append(f"my {several['noun'].strip()} are called {several['name'].rstrip('.')}")
    at = 0
    while one := _HAVE_ONE.match(statement, at):
        found.append(f"my {one['noun'].strip()} is called {one['name'].rstrip('.')}")
        at = one.end()
    if at == 0 and (event := _HAVE_AT.match(statement)):
        found.append(f"my {event['noun'].strip()} is {event['at'].strip()}")
    for related in _RELATED.finditer(statement):
        noun, name = related["noun"].strip(), related["name"]
        if noun.split()[-1] in _EVERYBODY and not {*name.lower().split()} & TIMES:
            found.append(f"{related['owner']} {noun} is called {name}")
            rest = statement[related.end() :]
            if not related["before"] and re.match(r"\s+[a-z]", rest):
                found.append(f"{related['owner']} {noun}{rest}")
    return found


def people_in(statement: str) -> set[str]:
    """The persons and pets that a statement calls the speaker's own: "my sister", "our older dog"."""
    found = set()
    for phrase in _OWN.findall(statement):
        words = phrase.split()
        ends = next((i for i, word in enumerate(words) if word.lower() in _EVERYBODY), None)
        if ends is not None:
            found.add(" ".join(["my", *words[: ends + 1]]).lower())
    return found
