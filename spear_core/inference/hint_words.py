"""The English words and phrases by which a hint is read, and typing mistakes in them. Data and lookups; no reading.

Hints in other languages are read as what they are without these phrases: a statement of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_LONGEST_TYPO = 12

Phrases = frozenset[tuple[str, ...]]


def words_in(text: str) -> frozenset[str]:
    """The words of a list that is written as one text."""
    return frozenset(text.split())


def phrases(*patterns: str) -> Phrases:
    """Word sequences from patterns such as "(that's|this is) (wrong|false)"; an empty alternative is allowed."""
    found = set()
    for pattern in patterns:
        parts = [
            group.split("|") if group else [word] for group, word in re.findall(r"\(([^)]*)\)|([^()\s]+)", pattern)
        ]
        found |= {tuple(" ".join(chosen).split()) for chosen in product(*parts)}
    return frozenset(found - {()})


# Openings that say that something is wrong, or nothing at all.
OBJECTIONS = phrases(
    "(no|nope|nah|wrong|incorrect|false|sorry|actually|well|hmm|hm|oh|hey|but|ok|okay|and|so|please|hint|fact|correction)",
    "(haha|ha|lol|omg|ugh|ouch|erm|um|uh|nah nah|no no no)",
    "(that's|thats|that is|this is|it's|its|it is|) (wrong|incorrect|false|mistaken|not right|not true|not correct|not it)",
    "(that|it|this) (isn't|isnt) (right|true|correct|it)",
    "(i don't think|i dont think|i do not think) (that's|thats|that is|it's|it is) (right|correct|true)",
    "(i don't think|i dont think|i do not think) (so|it)",
    "(you're|youre|you are) (wrong|mistaken|incorrect|not right)",
    "(not quite|not really|not at all|no no|no way|in fact|of course|obviously|clearly|really|rather|sorry but)",
    "(please|) (correct|fix|change) (this|that|it) (please|) (to|)",
    "(think|try) again",
    "you (got|have) (it|that|this) wrong",
    "(i|i'm|im|i am) (think|believe|know|guess|sure|pretty sure|quite sure|certain) (that|)",
    "as far as i know",
    "remember (that|)",
    "(no|nope|sorry|) (that|it|this) (has|) changed",
    "(that|it|this) (is|was) (outdated|out of date|no longer true|not true anymore|not true any more)",
    "(that's|thats|it's) (outdated|out of date|no longer true|not true anymore|not true any more)",
    "(not|no) (anymore|any more|any longer|longer)",
)
# Openings that remind of what was said before, unless the question asks for that.
REMINDERS = phrases(
    "(as|like|) i (already|just|) (said|told you|wrote|mentioned) (already|before|earlier|) (that|)",
    "(i have|i've|ive) (already|just|) (said|told you|mentioned) (already|before|) (that|)",
)
# Openings that the answer follows.
ANNOUNCEMENTS = phrases(
    "(it|that|this|there) (is|was|must be|should be|would be|has to be|should say|ought to be) (called|actually|really|)",
    "(it's|its|that's|thats|there's) (called|actually|really|)",
    "(these|those|there) (are|were|should be) (called|actually|)",
    "(he|she) (is|was) (called|actually|)",
    "(he's|she's|they're|they are|they were) (called|actually|)",
    "(must|should|would) (be|have been)",
    "(you|i|you must) (mean|meant)",
    "i (was|am) looking for",
    "(the|) (right|correct) (one|name|word|number|date|year|place|person) (is|was)",
    "(the|his|her|its|their|) (name|word|number|date|year|place|address) (is|was)",
    "(the|my|your|) (right|correct|real|actual|true|proper|) (answer|solution|response) "
    "(to this question|to that|to it|) (is|was|should be|would be|must be|should have been|)",
    "(the|) (right|correct|real|true) (answer|solution) (here|) (is|would be)",
    "(just|) say",
)
NAMINGS = phrases("(please|you can|people|) call me", "(i'm|im|i am) called")  # the same, where the name is asked for
# Endings that say no more than that the rest is right.
ENDINGS = phrases(
    "(is|was|would be) (the|) (right|correct|real|true|actual) (answer|one|name|solution|response|)",
    "(you know|i think|i believe|please|of course|obviously|actually|thanks|thank you|instead|mate|im sure|i'm sure)",
    "is what i (meant|wanted)",
    "(now|nowadays|these days|by now)",
)
# Endings after a comma; those that ask only where the hint ends in a question mark
TAGS = REMINDERS | phrases("(isn't|isnt|wasn't) it", "(lol|duh|dude|man)")
ASKING_TAGS = phrases("(right|correct|ok|okay|yes|no)")
INSTEAD = phrases("(and|but|) not", "(instead of|rather than)")  # before what is wrong: "Oslo, not Bergen"
YOU_SAID = phrases("(and|but|) you (said|wrote|told me)")  # after a comma: "7, you said 8"
# After "not" these begin a statement, other words what the answer is not: "it's not before 9", "it's not Bergen"
NOT_DENIED = words_in("before until till after more less only even every always for because")
NAMED = phrases("(called|named|actually|really)")
IT_IS = phrases("(it's|its|it is|that's|thats|that is)")
IS_NOT = phrases(
    "(i don't think|i dont think|i do not think) (that's|thats|that is|it's|its|it is|it was)",
    "(isn't|isnt|wasn't|wasnt|aren't|weren't)",
    "(is|was|are|were|it's|that's|he's|she's|they're) not",
)
IS_WRONG = phrases(
    "(is|was|are|were) (wrong|incorrect|false|not right|not correct|not true)",
    "(isn't|isnt|wasn't|aren't) (right|correct|true)",
)

# Words that begin or make up a request for another form or content.
REQUEST_STARTS = words_in("""make be use write rewrite rephrase reword say explain translate give tell add mention include remove leave
    drop keep avoid skip put begin start end finish list describe summarise summarize shorten expand elaborate simplify sound
    answer reply respond speak show provide check consider don't dont do stop try let focus stick count look read cut
    convert format spell call address name compare talk think""")
# Those of them that are nouns as well ("sound engineer"), and the words with which an order goes on ("answer in French")
NOUNS_TOO = words_in("""name address list sound answer reply start end finish stop cut call format count look show focus check
    talk drop""")
AFTER_ORDERS = words_in("""a an the it this that these them me my your his her its their all each every only just more less again with
    without in as by on at to from for about how why what like one two three please and""")
POLITE = phrases(
    "(please|just|maybe|perhaps|also)",
    "(can|could|will|would) (you|it|this|that|we|i) (please|just|)",
    "(you|it|that|this) (should|could|can)",
    "(i|we|) (want|need|would like|expect) (you|it|this|that) to",
    "(i'd|we'd|id) (like|prefer) (you|it|this|that) to",
)
WISHES = phrases(
    "(i|we|) (want|need|would like) (it|this|that|them|)", "(i'd|we'd|id) (like|prefer) (it|this|that|them|)"
)
DEGREES = phrases(
    "(can be|could be|should be|to be|be|something|even|much|way|far|a lot|lots|a bit|a little|a tad|bit|little|a|an|it)"
)
COMPARATIVES = words_in("""shorter longer simpler clearer nicer politer friendlier warmer funnier kinder softer briefer better worse easier
    harder stronger lighter happier sadder cheaper newer older smaller bigger more less fewer too""")
STYLES = words_in("""short long brief simple clear nice polite friendly formal informal casual concise precise exact detailed funny
    serious professional personal specific vague wordy verbose boring rude generic complicated technical repetitive
    dry cold harsh stiff childish confusing unclear incomplete outdated""")
STYLES_OF_TEXTS = (
    words_in("""brief formal informal casual concise precise exact detailed specific vague wordy verbose boring rude generic
    complicated technical repetitive childish confusing unclear incomplete outdated polite""")
)  # of little else than a text
TEXTS = (
    words_in("""answer answers version text reply replies response explanation summary description introduction information
    info context title email letter message note story poem please thanks and but or now""")
)  # what may follow a style word
LANGUAGES = words_in("""english french german spanish italian portuguese dutch polish russian ukrainian turkish greek latin arabic hebrew
    hindi chinese japanese korean swedish danish norwegian finnish czech hungarian romanian""")
FORMS = words_in("""sentence sentences word words paragraph paragraphs line lines bullet bullets point points list table tone style
    rhyme verse prose steps step example examples emoji emojis jargon detail details short brief lowercase uppercase
    capitals quotes numbers markdown html code""")
# Words of a hint that points at the answer without stating it: "a word of five letters", "it starts with O".
POINTERS = phrases(
    "(starts|begins|ends|start|begin|end|starting|ending|rhymes|beginning) with",
    "(letter|letters|syllables|syllable|rhymes|vowel|vowels)",
    "think (of|about)",
    "(similar to|close to|related to|known for|famous for|something like|kind of|type of|sort of)",
)
KINDS_OF_THING = words_in("""answer city town country continent place location name person man woman author singer actor player team year
    date day month time century age number figure amount price unit language word spelling order colour color animal
    category subject topic title book film movie song state capital river mountain company product model
    version gender sex direction format way method question thing one part""")
COMPLAINED_OF = (
    words_in("""forgot missed misspelled misspelt misread misunderstood spelled spelt mixed confused made repeated ignored invented
    skipped left got wrote said keep didn't didnt don't dont still already just always were are""")
)  # what "you ..." did, in a complaint
SMALL_WORDS = words_in("""a an the is was are were be been it its it's this that of in on at to for from by with and or not no he she
    they you i my your his her their our we do does did has have had as so but""")
PRONOUN_IS = words_in("it it's its he he's she she's they they're there there's")
AUXILIARIES = words_in("is was are were am did do does has have had can could will would should may might")
# Before a "not" that belongs to the verb; between the two may stand an adverb
NEGATABLE = AUXILIARIES | words_in("must shall ought be been being im its thats better rather why or if")
VERB_ADVERBS = words_in(
    "really actually definitely certainly usually clearly still just also often always simply probably"
)
YES_NO_QUESTIONS = AUXILIARIES | words_in("isn't aren't doesn't don't didn't won't can't")  # their first words
PRONOUNS = words_in("it he she they we you i this that")
COMMON_VERBS = (
    words_in("""become begin belong buy call carry close come contain cook cost drink drive eat end feed finish fly get give go grow
    happen help hold keep know last leave like live look make mean meet move need open own pay play put read run sell
    send serve show sit sleep speak start stay stop store take teach tell travel use visit wear weigh work write""")
)  # their base forms
SUBJECT_ENDS = words_in("is was are were has had in by be on called")

_CONTRACTIONS = {
    f"{word}{mark}s": (word, "is") for word in ("what", "who", "where", "when", "how") for mark in ("'", "")
}

_SHORTENED = {"theres": "there's", "theyre": "they're"}

LONGEST_PHRASE = max(len(phrase) for phrase in OBJECTIONS | REMINDERS | ANNOUNCEMENTS | ENDINGS)
_KNOWN = frozenset(word for phrase in OBJECTIONS | ANNOUNCEMENTS | ENDINGS for word in phrase)
_TYPED = [*sorted(word for word in _KNOWN if len(word) >= 5 and "'" not in word), "the"]
# Words and names of their own (frequency above 1 in 500,000) that `_is_typo` would take for one of those
_NO_TYPOS = words_in("""three thee than tank tanks thin pace palace quiet quit meat mistake rally petty guests curse prosper theses
    loner waned pleas chang pearson pierson persson wong""")


def after_phrases(words: Sequence[str], at: int, phrases: Phrases, most: int = 8) -> int:
    """The place after as many of the phrases as stand here, one after the other."""
    for _ in range(most):
        longest = min(LONGEST_PHRASE, len(words) - at)
        length = next((n for n in range(longest, 0, -1) if tuple(words[at : at + n]) in phrases), 0)
        if not length:
            break
        at += length
    return at


def plain_words(text: str) -> list[str]:
    """The words of a text in lower case with straight apostrophes."""
    return [plain(match.group()) for match in _WORD.finditer(text)]


def plain(word: str) -> str:
    """The word in lower case with a straight apostrophe."""
    return word.lower().replace("’", "'")


def without_contractions(words: Sequence[str]) -> list[str]:
    """The words with "what's" and "whats" as two."""
    return [part for word in words for part in _CONTRACTIONS.get(word, (word,))]


def content_words(text: str) -> list[str]:
    """The words of a text that say something, in lower case, in their order."""
    return [word for word in plain_words(text) if word not in SMALL_WORDS]


def stem(word: str) -> str:
    """Words that differ in an ending alone have the same one: "capitals" and "capital", "norway's" and "norways"."""
    return word.removesuffix("'s").rstrip("s")[:6]


SMALL_STEMS = frozenset(map(stem, SMALL_WORDS))


def known_word(word: str) -> str:
    """The word of the phrases that this one is, but for one letter typed wrongly; else the word itself."""
    word = _SHORTENED.get(word, word)
    if word in _KNOWN | _NO_TYPOS or not 3 <= len(word) <= _LONGEST_TYPO or not word.isalpha():
        return word
    return next((known for known in _TYPED if _is_typo(word, known)), word)


def _is_typo(word: str, known: str) -> bool:
    """Two neighbours exchanged, or a letter missing or too many in a longer word.

    Another first letter makes another word ("bright"), and a letter more at the end a form of the word ("placed").
    """
    if len(word) == len(known):
        at = [i for i, (a, b) in enumerate(zip(word, known, strict=True)) if a != b]
        return len(at) == 2 and at[1] == at[0] + 1 and word[at[0]] + word[at[1]] == known[at[1]] + known[at[0]]
    if len(known) < 5 or abs(len(word) - len(known)) != 1 or word[0] != known[0] or word.startswith(known):
        return False
    short, long = sorted((word, known), key=len)
    return any(long[:i] + long[i + 1 :] == short for i in range(len(long)))
