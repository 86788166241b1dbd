"""Sentences with a stated answer: in place of the wrong one, after the words of the reply, or the answer alone. Text only.

The model is trained on a confirmed revision, so it should be one short sentence that answers the question. Where a sentence
of the refused reply contains the wrong answer, the right one replaces it and the rest is cut off. Sentences in the words of
the question are in question_sentences.py. The model chooses the most natural one (stated_answers.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from spear_core.inference.hint_words import (
    AUXILIARIES,
    COMMON_VERBS,
    YES_NO_QUESTIONS,
    content_words,
    plain_words,
    stem,
)
from spear_core.inference.hints import capitalised
from spear_core.inference.sentence_ends import NOT_ABBREVIATED, SENTENCE_END
from spear_core.inference.typed_words import with_known_capitals

MOST_ADDED_WORDS = 2  # of a sentence about the answer: words that neither the question nor the answer has
LONGEST_SENTENCE = 45  # words
LONG_REPLY_WORDS = 40
_SENTENCE_END = re.compile(rf"(?<=[\w\"')\]])[.!?]{NOT_ABBREVIATED}(?=\s+[A-Z\"(])|[.!?](?=\s*$)")
_YOU = {
    "i": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself", "i'm": "you are", "i've": "you have",
    "i'd": "you'd", "i'll": "you'll",
    "we": "you", "us": "you", "our": "your", "ours": "yours", "we're": "you are", "we've": "you have",
    "we'd": "you'd", "we'll": "you'll",
}  # fmt: skip
TO_BE = {"am": "are", "was": "were", "wasn't": "weren't"}  # after "I"
# Before "mine", where it is no noun ("a coal mine"); before an "I" that ends a text, where it is no numeral
_BEFORE_MINE = frozenset("is are was were be not of than and or but like to as with from".split())  # noqa: SIM905
_BEFORE_I = AUXILIARIES | {"and", "or", "than", "as"}
PREPOSITIONS = frozenset(
    """about above after against along at before behind below beside between by during for from in inside near of on opposite
    outside over past since through to towards under until with""".split()  # noqa: SIM905
)
_LINK = rf"(?:\b(?:{'|'.join(sorted(PREPOSITIONS))})\s+)?(?:\b(?:an?|the|your|my|our)\s+)?"  # before a noun
_LINK_BEFORE = re.compile(_LINK, re.IGNORECASE)
_FINITE = YES_NO_QUESTIONS | frozenset(
    """am must cannot became began bought built came drank gave got grew held kept knew led left lost made met paid ran said sang
    sat sent sold spent spoke stood taught told took went won wore wrote""".split()  # noqa: SIM905
)
_PAST = re.compile(r"\w[^e]ed$")
PRONOUN_VERB = re.compile(r"(?:i|you|he|she|it|we|they|that|there)'(?:m|re|s|ve|d|ll)$")
_SUBJECT_BEGINS = r"(?:i|you|he|she|it|we|they|that|there|my|your|our|his|her|their|the)\b"
_REASON = re.compile(r"because\b|due to\b|since\b", re.IGNORECASE)


def first_sentence(text: str) -> str:
    """The first sentence of a reply, cut where it is too long to build on."""
    line = next((line.strip() for line in text.split("\n") if line.strip()), "")
    end = _SENTENCE_END.search(line)
    return " ".join((line[: end.end()] if end else line).split()[:LONGEST_SENTENCE])


def to_you(text: str) -> str:
    """A text about the speaker turned into one about the listener: "my sister" becomes "your sister". Titles stay as they are."""
    words = text.split(" ")
    out: list[str] = []
    for i, word in enumerate(words):
        core = word.strip(",.;:!?\"'()")
        said = core.lower().replace("’", "'")
        before = words[i - 1].lower() if i else ""
        begins = i == 0 or before.endswith((".", "!", "?"))
        if said in _YOU and _is_of_speaker(words, i, said, begins):
            new = _YOU[said]
        elif said in TO_BE and before == "i":
            new = TO_BE[said]
        else:
            out.append(word)
            continue
        out.append(word.replace(core, capitalised(new) if core[:1].isupper() and begins else new))
    return " ".join(out)


def _is_of_speaker(words: Sequence[str], at: int, said: str, begins: bool) -> bool:
    """Whether a word such as "my" is said of the speaker: not in "My Fair Lady", "Elizabeth I", "a coal mine", "the US"."""
    word, before = words[at], words[at - 1].strip(",;:") if at else ""
    if said == "mine" and before.lower() not in {"", *_BEFORE_MINE}:
        return False
    if not word.lstrip("\"'(")[:1].isupper():
        return True
    after = [later[:1] for later in words[at + 1 : at + 3]]
    if begins:  # "We Will Rock You"; "My Volvo is blue"
        return not (len(after) == 2 and all(c.isupper() for c in after))
    if said == "i" and not after:
        return before.lower() in _BEFORE_I
    return said.startswith("i") and said != "i" or said == "i" and after[0].islower()


def said_to_you(text: str, question: str) -> str:
    """A beginning of a reply in which the model took over "my" or "our" from the question, said to the person who asked."""
    asked = set(plain_words(question))
    ours = {"we", "us", "our", "ours", "we're", "we've"}
    taken = (ours if asked & ours else set()) | (asked & {"my", "mine"})
    return " ".join(to_you(word) if word.lower().replace("’", "'") in taken else word for word in text.split(" "))


def sentence_with(answer: str, text: str) -> str:
    """The first sentence of a text that contains the answer."""
    at = text.lower().find(answer.rstrip(".").lower())
    before = [end.end() for end in _SENTENCE_END.finditer(text) if end.end() <= at]
    return sentence(first_sentence(text[before[-1] :] if before else text))


def added_words(sentence: str, *known: str) -> list[str]:
    """Content words of a sentence that none of the known texts has in any form."""
    stems = {stem(word) for text in known for word in plain_words(text)}
    return [word for word in content_words(sentence) if stem(word) not in stems]


def sentence(text: str) -> str:
    """The text with a capital at its beginning and of known names, and a full stop at its end."""
    text = with_known_capitals(text.strip().rstrip(" ,;:"))
    return capitalised(text) if text[-1:] in (".", "!", "?") else capitalised(text) + "."


def bare(answer: str) -> str:
    """The answer alone, as a sentence."""
    return sentence(answer)


def in_place_of(rejected: str, answer: str, reply: str) -> str | None:
    """The reply with every occurrence of what the hint rejects replaced by the answer; None where there is none.

    Of a number there must be one occurrence, and not within another number: "8" may mean "8:00" or "room 8". A preposition and
    an article before it are replaced where the answer has its own: "on Monday" for "at 8".
    """
    if not rejected:
        return None
    pattern = re.compile(rf"(?P<link>{_LINK})(?<!\w)(?<!\d[.:,]){re.escape(rejected)}(?!\w)(?![.:,]\d)", re.IGNORECASE)
    is_number = rejected.strip()[-1:].isdigit() and not any(c.isalpha() for c in rejected)
    if not pattern.search(reply) or is_number and len(re.findall(rf"(?<!\d){re.escape(rejected)}(?!\d)", reply)) > 1:
        return None
    new = answer.rstrip(".")
    own = {*plain_words(begun.group())} if (begun := _LINK_BEFORE.match(new)) else set()

    def changed(match: re.Match[str]) -> str:
        kept = match.group("link")
        if own & PREPOSITIONS:
            kept = ""
        elif own:
            kept = "".join(word for word in re.findall(r"\S+\s+", kept) if word.strip().lower() in PREPOSITIONS)
        begins = match.group()[:1].isupper() and not kept and match.group("link")
        return kept + (capitalised(new) if begins else new)

    return capitalised(pattern.sub(changed, reply.strip()))


def endings(reply: str, question: str) -> list[str]:
    """Beginnings of the reply's first sentence that add little to the question and may be followed by the answer.

    Each has a verb: "Watering a cactus" with "once a month" is no sentence.
    """
    words = first_sentence(reply).split()
    found = []
    for count in range(2, len(words) + 1):
        head = " ".join(words[:count]).rstrip(",;:.!?")
        if len(added_words(head, question)) > MOST_ADDED_WORDS:
            break
        if content_words(head) and not words[count - 1].endswith((",", ";")) and has_verb(head):
            found.append(head)
    return found


def has_verb(text: str) -> bool:
    """Whether a finite verb is among the words, as far as they tell."""
    words = plain_words(text)
    for before, word in zip(["the", *words], words, strict=False):
        bases = {word, word.removesuffix("s"), word.removesuffix("es"), re.sub("ies$", "y", word)}
        is_noun = before in ("the", "a", "an", "my", "your", "our", "his", "her", "its", "their")
        if word in _FINITE or _PAST.search(word) or PRONOUN_VERB.match(word) or bases & COMMON_VERBS and not is_noun:
            return True
    return False


def with_other_subject(reply: str, answer: str, question: str) -> str | None:
    """The first sentence with the answer for its subject ("Lope wrote Don Quixote"), if the rest is the question's."""
    words = first_sentence(reply).split()
    asked = {stem(word) for word in plain_words(question)}
    at = next((i for i, w in enumerate(words) if {stem(p) for p in plain_words(w)} & asked), len(words))
    if not 0 < at < len(words) - 1 or not added_words(" ".join(words[:at]), question):
        return None
    rest = " ".join(words[at:])
    return sentence(f"{answer.rstrip('.')} {rest}") if len(added_words(rest, question)) <= MOST_ADDED_WORDS else None


def gives_reason(question: str, answer: str) -> bool:
    """Whether a question asks why, and the answer begins as a reason does ("because of the cold")."""
    return bool(_REASON.match(answer)) and plain_words(last_question(question))[:1] == ["why"]


def yes_or_no(question: str, stated: str) -> str:
    """The "yes" or "no" with which a statement answers a question of yes or no; empty where it begins otherwise."""
    asked, words = plain_words(last_question(question)), plain_words(stated)
    is_answer = asked[:1] and asked[0] in YES_NO_QUESTIONS and len(words) > 1 and words[0] in ("yes", "no")
    return words[0] if is_answer else ""


def with_comma(question: str, stated: str) -> str:
    """A statement with a comma after its "yes" or "no": "No, he is younger."; "no meat" is left as it is."""
    if not yes_or_no(question, stated):
        return stated
    after = rf"(?:\s*[,.;:!–—-]+\s*|\s+(?={_SUBJECT_BEGINS}))"
    match = re.match(rf"\W*(yes|no){after}(You\w*\b)?", stated, re.I)
    return f"{match[1]}, {(match[2] or '').lower()}{stated[match.end() :]}" if match else stated


def without_objection(question: str, stated: str, reply: str) -> str:
    """A statement without its "no" where the reply, too, says "no" to the question: the person's objects to the reply's.

    With "not" it answers the question: "no, it isn't a fruit".
    """
    words = plain_words(stated)
    is_objection = yes_or_no(question, stated) == "no" and plain_words(reply)[:1] == ["no"]
    if not is_objection or any(word in ("not", "never") or word.endswith("n't") for word in words):
        return stated
    return re.sub(r"^\W*no\b\W*", "", stated, flags=re.IGNORECASE)


def last_question(text: str) -> str:
    """The last sentence that ends in a question mark; the whole text where there is none."""
    line = " ".join(text.split())
    end = line.rfind("?")
    if end < 0:
        return line
    begin = max((match.end() for match in SENTENCE_END.finditer(line, 0, end)), default=0)
    return line[begin : end + 1].strip()
