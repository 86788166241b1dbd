"""The English words by which a correction in a conversation is told from what else people answer. Data and lookups."""

from __future__ import annotations

from collections.abc import Sequence

from spear_core.inference.hint_words import Phrases, phrases, without_contractions, words_in

# A message that begins so is no correction.
NOT_A_CORRECTION = phrases(
    "(no|nope|nah) (thanks|thank|problem|problems|worries|worry|idea|need|kidding|rush|doubt|matter|wonder|more|offence)",
    "(no|nope|nah) (that's|thats|that is|that was) (all|everything|fine|ok|okay|enough|it)",
    "(no|nope|nah) (let's|lets|never mind|nevermind|i'm|im|i am|i don't|i dont|i didn't|i will|i'll|i can|i can't|i have|just)",
    "(no|nope|nah) (is|are|means|one|matter)",
    "(thanks|thank|thx|cheers|ok|okay|great|good|cool|nice|wow|haha|hahaha|lol|interesting|amazing|beautiful|perfect|yes|yeah)",
    "(yep|sure|right|correct|exactly|indeed|true|agreed|fine|hello|hi|bye|please|maybe|perhaps|and|so|then|now|also|another)",
    "(what|who|where|when|why|how|which|can|could|would|will|do|does|did|are|tell|show|give|write|explain|make|translate)",
    "(that's|thats|that is) (great|good|nice|cool|fine|true|right|correct|what|interesting|tiny|huge|a lot|amazing|funny|all)",
    "(actually|but|well|oh|hmm) (can|could|never|what|who|where|when|why|how|which|tell|i'd|i would|let's|do|does)",
    "not (bad|now|today|again|yet|really|sure|my|the|in|for)",
    "(never|no way that's) (mind|heard|cool|amazing)",
    "(one|two|a few|some|any) more",
    "not (even|more|once|only|just|everyone|every|too)",
)
# What a person says of themselves: feelings, plans, habits.
PERSONAL = phrases(
    "(i'd|i would|i'll|i will|i'm going|im going|i am going|i like|i love|i hate|i prefer|i never|i already|i always|i can't)",
    "(i cannot|i can|i could|i don't|i dont|i didn't|i disagree|i agree|i want|i need|i feel|i hope|i wish|i have|i had|i made)",
    "(i tried|i went|i saw|i got|i just|i also|i still|i believe they|i believe it|i believe that|i think so|i thought)",
    "(my wife|my husband|my friend|my doctor|my boss|my mum|my mom|my dad) (wants|says|said|thinks|likes|loves|prefers|told)",
)
OPINIONS = frozenset(
    """better worse best worst nicer disgusting delicious boring beautiful ugly expensive cheap great awful amazing love hate
    prefer rather favourite favorite lol haha hahaha thanks thank guess sadly funny""".split()  # noqa: SIM905
)
REACTIONS = frozenset("wow haha lol cool nice great good ok okay yes no thanks sure done fine noted".split())  # noqa: SIM905
ABOUT_THE_REPLY = frozenset("wrong incorrect mistaken got have completely totally still reply again sorry".split())  # noqa: SIM905
BARE_NO = frozenset(["no", "nope", "nah"])
IT_IS = frozenset("it it's its that's thats he's she's they're".split())  # noqa: SIM905
_INTERJECTIONS = words_in("ah eh er erm hm hmm uh um well")
SURPRISE = phrases("(no way|really|no kidding|seriously)")
# Openings that say that the reply is wrong.
EXPLICIT_OBJECTIONS = phrases(
    "(sorry|sorry but|hmm|well|but|oh|no|no no|actually|) (that's|thats|that is|this is|it's|its|it is|you're|youre|you are) "
    "(wrong|incorrect|false|mistaken|not right|not true|not correct)",
    "(hmm|well|sorry|) (i don't think|i dont think|i do not think) (that's|thats|that is|it's|it is) (right|correct|true)",
    "(not quite|not true|not correct|not right|incorrect|false)",
    "(no|) you (got|have) (it|that|this) wrong",
    "(you|no you|you must|i think you) (mean|meant)",
    "(no|) (the|) (right|correct) (answer|one) (is|was)",
    "(no|) the answer (is|was|should be)",
    "(no|it|) should (be|have been)",
)
OBJECTIONS = EXPLICIT_OBJECTIONS | phrases(
    "(no|nope|nah|wrong|actually)",
    "(no|) (that's|thats|that is|this is|it's|its|it is) not (it|his|her|my|our|the)",
    "you (got|have|made) (it|that|this|the|a)",
)
_FLAT = phrases(
    "(no|nope|nah|wrong|incorrect|false|actually|no no)",
    "(no|nope|nah|wrong|incorrect|false|actually|no no) "
    "(it's|its|it is|it was|he's|she's|he is|she is|the|they|we|there|that's|that is|not|should|in|on|at|i think)",
)


FACT_QUESTIONS = phrases(
    "(what|who|which|when|where|whose|whom)",
    "how (many|much|long|far|old|tall|high|fast|deep|often|heavy|big|large)",
    "(in|on|at|from|to|by|for|of) (what|which|whom|where|whose)",
)
# Words of a question for advice or ideas, to which there is no one answer.
ADVICE = frozenset(
    "should recommend suggest good best better healthy advice tips idea ideas favourite favorite meaning plot".split()  # noqa: SIM905
)
HEDGES = phrases(
    "i (am|can|cannot|can't|do|don't|will|would|have|did)", "you (could|might|may|can|should)", "(how|what) about"
)
PREPOSITIONS = frozenset("for in on at to from with by about near next under over behind".split())  # noqa: SIM905


def asks_for_a_fact(question: Sequence[str]) -> bool:
    """A question with one right answer, as far as its words tell."""
    return begins_with(without_contractions(question), FACT_QUESTIONS) and not {*question} & ADVICE


def begins_with(words: Sequence[str], openings: Phrases) -> bool:
    """Whether the first words, at most eight, are one of the openings."""
    return any(tuple(words[:n]) in openings for n in range(1, min(len(words), 8) + 1))


def after_interjection(words: Sequence[str]) -> list[str]:
    """The words from an objection on, where no more than "hm" or "well" stands before it."""
    place = next((i for i, word in enumerate(words) if word not in _INTERJECTIONS), 0)
    return list(words[place:] if begins_with(words[place:], OBJECTIONS) else words)


def after_objection(words: Sequence[str]) -> list[str]:
    """The words after an opening that says that the reply is wrong; all of them where there is none."""
    longest = min(len(words), 8)
    return list(words[next((n for n in range(longest, 0, -1) if tuple(words[:n]) in OBJECTIONS), 0) :])


def is_flat(words: Sequence[str]) -> bool:
    """An objection as in "no, oslo" or "wrong, it's oslo": an objection word, then little but the answer."""
    return len(words) <= 6 and begins_with(words, _FLAT)


def is_about_others(words: Sequence[str]) -> bool:
    """Not about the person who writes: "tea for me", "it's on my list"."""
    return not {*words} & {"i'm", "im", "my", "me", "i'd", "i'll", "i've", "mine", "myself"}
