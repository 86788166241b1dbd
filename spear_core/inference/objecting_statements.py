"""Whether a message that begins with "no" or "wrong" states something else about what was asked. No model.

"No, risotto is stirred with hot stock." does; "no, I have no stock", "no, it didn't work" and "no, plants that like sun" say
something of the person, of today, or what they had meant to ask. It is read from the words alone, whatever was asked: how
something is done, whether or why it is so.
"""

from __future__ import annotations

from collections.abc import Sequence

from spear_core.inference.correction_words import PREPOSITIONS, begins_with
from spear_core.inference.fact_questions import MEASURES
from spear_core.inference.hint_words import (
    AUXILIARIES,
    COMMON_VERBS,
    PRONOUN_IS,
    REQUEST_STARTS,
    SMALL_STEMS,
    phrases,
    plain_words,
    stem,
)
from spear_core.inference.refusal_words import is_number

LEAST_WORDS = 3  # of a statement
MOST_MEASURED = 4  # of an answer to "how long": "about six minutes"
_PERSON = frozenset("i i'm im i've i'd i'll me myself we we're we've we'll us".split())  # noqa: SIM905
_OWN = frozenset("my mine our ours".split())  # noqa: SIM905
_PRONOUNS = PRONOUN_IS | {"you", "you're"}
# What is said of the moment or of an attempt, of another wish, or of the conversation
_OTHERWISE = frozenset(
    """not never still already yet now today tonight yesterday tomorrow here anymore instead that which who what why when where how if but
    thanks please want wanted mean meant problem idea""".split()  # noqa: SIM905
)
_VERBS = COMMON_VERBS | frozenset(
    """add apply approve ask attack block boil break bring build burn cannot cause change charge collect connect consist
    control convert copy count cover cut decide depend die differ drain expire fall fill find follow freeze handle
    include invent kill lay lead learn let lie lose melt mix must peel plant press produce protect pull push reach
    receive reduce refer release remove repeat replace require reset rest return rise roast rotate save say scatter
    see seem set simmer slow soak stand steep stir support swim toast train treat turn wait walk wash water win""".split()  # noqa: SIM905
)
# A wish, to which there is no right answer
_IDEAS = phrases(
    "(please|can you|could you|would you|will you|) (write|give|plan|suggest|create|compose|draft|recommend|invent|imagine|make|help|list)",
    "(please|can you|could you|would you|will you|) (translate|summarise|summarize|rewrite|tell me a|think|draw|generate|propose)",
    "(what|where|which|who) (should|shall|could|can|would)",
)
_IRREGULAR = frozenset(
    """was were had did became began bought brought built came cost cut died drank drove ate fell fed found flew got gave went grew held
    knew laid led left lay lost made met paid put ran read rose said sat saw sold sent set slept spoke stood swam took told
    wore won wrote""".split()  # noqa: SIM905
)


def states_otherwise(question: str, reply: str, body: Sequence[str], answer: str) -> bool:
    """Whether what follows the objection contradicts the reply by a statement about the same.

    Args:
        question: that was asked.
        reply: what the person objects to.
        body: the words after "no", lower case.
        answer: what the message states, as `read_hint` finds it.
    """
    asked, words = plain_words(question), {*body}
    of_the_person = words & _PERSON or words & _OWN and not {*asked} & _OWN
    forbids = any(verb in ("must", "should") and word == "not" for verb, word in zip(body, body[1:], strict=False))
    otherwise = words & _OTHERWISE - ({"not"} if forbids else set())  # "dogs must not eat chocolate" says what is right
    if begins_with(asked, _IDEAS) or of_the_person or otherwise or any(word.endswith("n't") for word in body):
        return False
    if asked[:1] == ["how"] and {*asked[1:2]} & MEASURES and len(body) <= MOST_MEASURED and any(map(is_number, body)):
        return True
    if len(body) < LEAST_WORDS:
        return False
    told = {stem(word) for word in plain_words(answer)} - SMALL_STEMS
    known = {stem(word) for word in (*asked, *plain_words(reply))} - SMALL_STEMS
    if not told - known:
        return False  # nothing new
    if body[0].endswith("ly"):
        body = body[1:]
    if body[0] == "because" and asked[:1] == ["why"]:
        return True
    if body[0] in _PRONOUNS:
        return len(told) > 1 or body[0] != "you"
    is_imperative = body[0] in _VERBS | REQUEST_STARTS
    if body[0] in PREPOSITIONS or (is_imperative and asked[:1] != ["how"]):
        return False
    is_about = bool(({stem(word) for word in body} - SMALL_STEMS) & known)
    return is_about and (is_imperative or any(map(_is_verb, body[1:])))


def _is_verb(word: str) -> bool:
    """Whether it is one of the common verbs, in any of its forms."""
    bases = (word, *(word.removesuffix(ending) for ending in ("s", "es", "d", "ed")), f"{word.removesuffix('ies')}y")
    return word in AUXILIARIES | _IRREGULAR or any(base in _VERBS for base in bases)
