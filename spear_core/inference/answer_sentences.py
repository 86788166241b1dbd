"""Sentences with a stated answer: in place of the wrong one, in the words of the question, or the answer alone. Text only.

The model is trained on a confirmed revision, so it should be one short sentence that answers the question. Where a sentence
of the refused reply contains the wrong answer, the right one replaces it and the rest is cut off. The model chooses the most
natural sentence (stated_answers.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from spear_core.inference.hint_words import (
    AUXILIARIES,
    COMMON_VERBS,
    PRONOUNS,
    YES_NO_QUESTIONS,
    content_words,
    plain_words,
    stem,
)
from spear_core.inference.hints import capitalised
from spear_core.inference.sentence_ends import NOT_ABBREVIATED, SENTENCE_END

MOST_ADDED_WORDS = 2  # of a sentence about the answer: words that neither the question nor the answer has
LONGEST_SENTENCE = 45  # words
LONG_REPLY_WORDS = 40
LONGEST_SUBJECT = 8  # words of the subject of a question for a reason
LONGEST_DOER = 3  # of one with "do" or "does"
_SENTENCE_END = re.compile(rf"(?<=[\w\"')\]])[.!?]{NOT_ABBREVIATED}(?=\s+[A-Z\"(])|[.!?](?=\s*$)")
_YOU = {
    "i": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself", "i'm": "you are", "i've": "you have",
    "i'd": "you'd", "i'll": "you'll",
    "we": "you", "us": "you", "our": "your", "ours": "yours", "we're": "you are", "we've": "you have",
    "we'd": "you'd", "we'll": "you'll",
}  # fmt: skip
_TO_BE = {"am": "are", "was": "were", "wasn't": "weren't"}  # after "I"
# Before "mine", where it is no noun ("a coal mine"); before an "I" that ends a text, where it is no numeral
_BEFORE_MINE = frozenset("is are was were be not of than and or but like to as with from".split())  # noqa: SIM905
_BEFORE_I = AUXILIARIES | {"and", "or", "than", "as"}
_IS_QUESTION = re.compile(
    r"^(?:what|who|where|when|which\s+[\w' -]{1,40}?|what\s+[\w' -]{1,40}?)\s*(?:'s|’s|\s(is|was|are|were))\s+(.+)$",
    re.IGNORECASE | re.DOTALL,
)
_PARTICIPLE = re.compile(r"(?:ed|born|en|held|built|made|found|won|sent|sold|kept)$")
_WHY_QUESTION = re.compile(
    r"^why\s+(is|are|was|were|am|can|could|should|must|will|would|do|(?:is|are|was|were|do|ca|could|should|wo|would)n['’]t)\s+(.+)$",
    re.IGNORECASE | re.DOTALL,
)
_DO_QUESTION = re.compile(
    r"^(how(?:\s+(?:often|long|far|much))?|where|when|what\s+time|who|(?:what|which)(?:\s+[\w'-]+)?)\s+(do|does)\s+(.+)$",
    re.IGNORECASE | re.DOTALL,
)
_MEASURE_QUESTION = re.compile(
    r"^how\s+(old|long|far|tall|high|big|wide|deep|heavy|fast|expensive|late)\s+(is|are|was|were)\s+(.+)$",
    re.IGNORECASE | re.DOTALL,
)
_HAVE_QUESTION = re.compile(r"^how\s+many\s+([\w' -]{1,40}?)\s+(do|does)\s+(.+?)\s+have$", re.IGNORECASE | re.DOTALL)
# Those that follow the subject of an everyday question; another word may be its noun ("my little sister")
_VERBS = COMMON_VERBS | frozenset(
    """arrive attend believe depart earn hate have love park prefer prepare ride sing smell spend study taste want""".split()  # noqa: SIM905
)
_CLOCK = re.compile(r"\d{1,2}(?:[:.]\d\d)?\s*(?:[ap]\.?m\.?|o['’]clock)?\.?$", re.IGNORECASE)
_IRREGULAR = {"have": "has", "be": "is"}
_COUNT_QUESTION = re.compile(r"^how\s+many\s+(.+)$", re.IGNORECASE | re.DOTALL)
_INVERTED = {"do", "does", "did", "can", "could", "will", "would", "should", "must", "have", "has", "had", "there"}
_PLACED = {"at", "in", "on", "by", "near", "behind", "under", "above", "next", "after", "before", "from", "to"}
_LINK = rf"(?:\b(?:{'|'.join(sorted(_PLACED))})\s+)?(?:\b(?:an?|the|your|my|our)\s+)?"  # before a noun
_LINK_BEFORE = re.compile(_LINK, re.IGNORECASE)
_REASON = re.compile(r"because\b|due to\b|since\b", re.IGNORECASE)
_SUBJECT_QUESTION = re.compile(r"^(?:who|which\s+\w+|what\s+\w+)\s+(\w+)\s+(.+)$", re.IGNORECASE | re.DOTALL)


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
        elif said in _TO_BE and before == "i":
            new = _TO_BE[said]
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
    """The text with a capital at its beginning and a full stop at its end."""
    text = text.strip().rstrip(" ,;:")
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
        if own & _PLACED:
            kept = ""
        elif own:
            kept = "".join(word for word in re.findall(r"\S+\s+", kept) if word.strip().lower() in _PLACED)
        begins = match.group()[:1].isupper() and not kept and match.group("link")
        return kept + (capitalised(new) if begins else new)

    return capitalised(pattern.sub(changed, reply.strip()))


def endings(reply: str, question: str) -> list[str]:
    """Beginnings of the reply's first sentence that add little to the question and may be followed by the answer."""
    words = first_sentence(reply).split()
    found = []
    for count in range(2, len(words) + 1):
        head = " ".join(words[:count]).rstrip(",;:.!?")
        if len(added_words(head, question)) > MOST_ADDED_WORDS:
            break
        if content_words(head) and not words[count - 1].endswith((",", ";")):
            found.append(head)
    return found


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


def from_question(question: str, answer: str) -> list[str]:
    """Sentences from the words of a simple question: "What is my sister's name?" gives "Your sister's name is Ana.".

    A question for a reason gives one for each place at which its subject may end, and most of them are no sentences: "Why is
    the sea salty?" gives "The sea is salty because ..." and "The is sea salty because ...". The model chooses.
    """
    asked = last_question(question).rstrip("?!. ")
    found: list[str] = []
    if gives_reason(question, answer):
        found += _reasons(asked, answer)
    elif match := _DO_QUESTION.match(asked):
        found += _done(match.group(1).lower(), match.group(2).lower() == "does", to_you(match.group(3)).split(), answer)
    elif (match := _MEASURE_QUESTION.match(asked)) and match.group(3).split()[0].lower() not in ("there", "it"):
        measure, verb, subject = match.group(1).lower(), match.group(2).lower(), to_you(match.group(3)).strip()
        found.append(f"{subject} {verb} {answer}")
        if measure == "old" and len(plain_words(answer)) == 1:
            found.append(f"{subject} {verb} {answer.rstrip('.')} years old")
        elif measure not in plain_words(answer):
            found.append(f"{subject} {verb} {answer.rstrip('.')} {measure}")
    elif match := _HAVE_QUESTION.match(asked):
        counted, subject, verb = match.group(1), to_you(match.group(3)).strip(), match.group(2).lower()
        found.append(f"{subject} {'has' if verb == 'does' else 'have'} {answer.rstrip('.')} {counted}")
    elif (match := _COUNT_QUESTION.match(asked)) and not set(plain_words(asked)) & _INVERTED:
        found.append(f"{answer.rstrip('.')} {to_you(match.group(1))}")
    elif (match := _IS_QUESTION.match(asked)) and match.group(2).split()[0].lower() not in ("there", "it"):
        verb = (match.group(1) or "is").lower()
        subject = to_you(match.group(2)).strip()
        words = subject.split()
        if len(words) > 1 and _PARTICIPLE.search(
            words[0]
        ):  # "Which town is located nearest?": the answer is the subject
            found.append(f"{answer.rstrip('.')} {verb} {subject}")
        elif len(words) > 1 and _PARTICIPLE.search(words[-1]):  # "was Marie Curie born": it goes behind the verb
            passive = f"{' '.join(words[:-1])} {verb} {words[-1]}"
            found += [f"{passive} {answer}", *(f"{passive} {link} {answer}" for link in ("in", "on", "by"))]
        else:
            found += [f"{subject} {verb} {answer}", f"{answer.rstrip('.')} {verb} {subject}"]
    elif (match := _SUBJECT_QUESTION.match(asked)) and match.group(1).lower() not in AUXILIARIES:
        verb = match.group(1)
        found.append(f"{answer.rstrip('.')} {verb} {to_you(match.group(2))}")
    return [sentence(text) for text in found if len(text.split()) <= LONGEST_SENTENCE]


def _reasons(asked: str, answer: str) -> list[str]:
    """Sentences for a question that asks why, one for each place at which its subject may end."""
    match = _WHY_QUESTION.match(asked)
    if match is None:
        return []
    verb, words = match.group(1).lower(), to_you(match.group(2)).split()
    if verb == "do":  # "Why do we have leap years?" may be about everybody
        return [f"{subject} {answer}" for subject in dict.fromkeys((" ".join(words), match.group(2).strip()))]
    if len(words) > LONGEST_SENTENCE:
        return []
    verb = _TO_BE.get(verb, verb) if words[0].lower() == "you" else verb
    places = range(1, min(len(words), LONGEST_SUBJECT + 1))
    return [f"{' '.join([*words[:i], verb, *words[i:]])} {answer}" for i in places]


def _done(asks_for: str, is_third_person: bool, words: list[str], answer: str) -> list[str]:
    """Sentences for "ASKS_FOR do(es) WORDS?". The answer to "what" or "who" follows the verb; none where that is not known."""
    if len(words) < 2 or len(words) > LONGEST_SENTENCE:
        return []
    known = (i for i in range(1, min(len(words), LONGEST_DOER + 1)) if words[i].lower() in _VERBS)
    at = 1 if words[0].lower() in PRONOUNS else next(known, 0)
    if not at:
        return []
    begun = [*words[:at], _third_person(words[at]) if is_third_person else words[at]]
    is_place = asks_for in ("where", "when", "what time")
    if not is_place and not asks_for.startswith("how"):
        return [" ".join([*begun, answer.rstrip("."), *words[at + 1 :]])]
    links: tuple[str, ...] = ("", "at ", "in ", "on ")
    if not is_place or _PLACED & {*plain_words(answer)[:1]}:
        links = ("",)
    elif asks_for != "where" and _CLOCK.match(answer):
        links = ("at ",)
    return [" ".join([*begun, *words[at + 1 :], link + answer]) for link in links]


def _third_person(verb: str) -> str:
    """The form of a verb after "he": "lives", "goes", "carries"."""
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    if re.search(r"(?:[sxzo]|ch|sh)$", verb):
        return verb + "es"
    return verb[:-1] + "ies" if re.search(r"[^aeiou]y$", verb) else verb + "s"


def yes_or_no(question: str, stated: str) -> str:
    """The "yes" or "no" with which a statement answers a question of yes or no; empty where it begins otherwise."""
    asked, words = plain_words(last_question(question)), plain_words(stated)
    is_answer = asked[:1] and asked[0] in YES_NO_QUESTIONS and len(words) > 1 and words[0] in ("yes", "no")
    return words[0] if is_answer else ""


def last_question(text: str) -> str:
    """The last sentence that ends in a question mark; the whole text where there is none."""
    line = " ".join(text.split())
    end = line.rfind("?")
    if end < 0:
        return line
    begin = max((match.end() for match in SENTENCE_END.finditer(line, 0, end)), default=0)
    return line[begin : end + 1].strip()
