"""What a hint on a reply says: it states the answer, points at it, asks for a change, or objects. No model.

It is read from the words alone. Typing mistakes, lower case and missing punctuation are tolerated: "teh answer is oslo",
"its Oslo not Bergen", "no, oslo". The answer is what remains without such openings and endings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from spear_core.inference.hint_requests import asks_for_a_fact_or_favourite, asks_for_another_form
from spear_core.inference.hint_words import (
    ANNOUNCEMENTS,
    ASKING_TAGS,
    COMPLAINED_OF,
    ENDINGS,
    INSTEAD,
    IS_NOT,
    IS_WRONG,
    IT_IS,
    KINDS_OF_THING,
    NAMED,
    NAMINGS,
    NEGATABLE,
    NOT_DENIED,
    OBJECTIONS,
    POINTERS,
    PRONOUN_IS,
    PRONOUNS,
    REMINDERS,
    SMALL_WORDS,
    SUBJECT_ENDS,
    TAGS,
    VERB_ADVERBS,
    YES_NO_QUESTIONS,
    YOU_SAID,
    after_phrases,
    known_word,
    plain,
    plain_words,
    stem,
    words_in,
)
from spear_core.inference.sentence_ends import FULL_STOP, FURTHER_CLAUSE, FURTHER_SENTENCE
from spear_core.inference.typed_words import with_apostrophes

MOST_HINT_CHARACTERS = 2000  # a longer hint is read up to here
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_PARTICIPLE = re.compile(
    r"\w{3}(?:ed|ought|aught)$|^(?:been|found|built|made|held|won|sent|sold|kept|born|known|shown|written|taken|given|driven"
    r"|eaten|broken|chosen|spoken|stolen|frozen|hidden|fallen|beaten|proven|forgotten|forbidden)$"
)
_DONE_WELL = re.compile(r"\w{2}ed$|^(?:done|known|made|said|paid|hidden|spoken|written)$")
LONGEST_ANNOUNCED = 6  # words of an answer that is taken without its "it's"; a longer clause stays whole
SHORTEST_FURTHER = 3  # words of what follows "that's ...,"
LONGEST_ALONE = 3  # words of an answer that follows what is rejected without an "it's"
_OF_SAYING = words_in("say says said saying tell told mention mentioned write wrote")
_OF_TALKING = words_in("asked wanted want meant need didn't don't never")  # "you didn't answer, I asked about Rome"
_WHETHER_OR_WHY = [["why"], *([word] for word in YES_NO_QUESTIONS)]
_LONGEST_SUBJECT = 20  # words
_PERSONS = words_in("i im he she we they you")
_ASKS_FOR_THE_NAME = re.compile(r"\bmy name\b|\b(?:who am i|who i am|am i called|call me)\b", re.I)
_OF_THE_SPEAKER = words_in("i i'm im i've we we're my our not and but so because which who where the a an")


class HintKind(StrEnum):
    """The kind of a hint."""

    STATES = "states"  # the answer, or a part of it, is in the hint
    POINTS = "points"  # at the answer without saying it: "it starts with O", "a word of five letters"
    ASKS = "asks"  # for another form or content: "shorter", "in French please", "mention the date"
    OBJECTS = "objects"  # only says that something is wrong: "no", "wrong city"


@dataclass(frozen=True)
class Hint:
    """A hint as it was read.

    Attributes:
        kind: what the hint does.
        answer: the stated answer in the words of the hint; empty where it states none.
        rejected: what the hint calls wrong.
        statement: the sentence about the question from which the answer was taken, if it was one.
        announced: whether the answer follows an opening such as "no," or "it's", or precedes one such as "is correct".
    """

    kind: HintKind
    answer: str = ""
    rejected: str = ""
    statement: str = ""
    announced: bool = False


@dataclass(frozen=True)
class _Token:
    word: str  # lower case, straight apostrophes, without a typing mistake
    start: int
    end: int


def read_hint(hint: str, question: str = "") -> Hint:
    """What the hint says. `question` tells a sentence about the question ("Norway's capital is Oslo") from an answer."""
    text = with_apostrophes(" ".join(hint[:MOST_HINT_CHARACTERS].split()))
    tokens = [_Token(known_word(plain(m.group())), m.start(), m.end()) for m in _WORD.finditer(text)]
    if not tokens:  # an answer may be a sign
        return Hint(HintKind.STATES, text) if text.strip("!?.…-– ") else Hint(HintKind.OBJECTS)
    words = [token.word for token in tokens]
    begins_answer = _is_yes_or_no(question, words)
    first = 0 if begins_answer else _after_objections(text, tokens, 0, question)
    after, rejected = _after_rejection(text, tokens, first, question)
    if rejected:
        first = _after_objections(text, tokens, after, question)
    first = _after_what_the_reply_is(text, tokens, first)
    begin = _after_announcements(words, first)
    named = after_phrases(words, first, ANNOUNCEMENTS, most=1)
    if begin == first < named < len(words) and (rejected or text[tokens[named].start].isupper()):
        begin = named  # "it's Frozen"
    if first < begin and len(words) - begin > LONGEST_ANNOUNCED and words[first] in PRONOUN_IS:
        begin = first
    if _ASKS_FOR_THE_NAME.search(question):
        begin = after_phrases(words, begin, NAMINGS, most=1)
    if (
        begin + 1 < len(words)
        and words[begin] in KINDS_OF_THING | {"address"}
        and text.startswith(":", tokens[begin].end)
    ):
        begin += 1
    announced = begin > first or bool(rejected)
    if _only_objects(words, begin):
        return Hint(HintKind.OBJECTS, rejected=rejected)
    if any(after_phrases(words, place, POINTERS, most=1) > place for place in range(begin, len(words))):
        return Hint(HintKind.POINTS, rejected=rejected)
    if asks_for_another_form(words, begin, announced, question):
        return Hint(HintKind.ASKS, rejected=rejected)
    if not announced:
        begin = _after_subject(words, first, question)
    if words[begin] == "not":
        if _only_denies(text, tokens, first, begin, question):
            return Hint(HintKind.OBJECTS, rejected=_cut(text, tokens, begin + 1, len(words)))
        begin = first
    end, instead_of = _before_ending(text, tokens, begin)
    if announced:
        end = _before_relative(words, begin, end, question)
    sentence = _cut(text, tokens, first, end) if begin > first and not announced else ""
    if begin == first and end == len(words):
        end = _before_subject(words, begin, question)
        sentence = _cut(text, tokens, first, len(words)) if end < len(words) else ""
    answer = re.sub(r"^its\b", "it's", _cut(text, tokens, begin, end))
    if not answer:
        return Hint(HintKind.OBJECTS, rejected=rejected or instead_of)
    return Hint(HintKind.STATES, answer, rejected or instead_of, sentence, announced=begin > 0 or end < len(words))


def capitalised(text: str) -> str:
    """The text with its first letter as a capital, unless its first word is a code or an address ("bluewhale42")."""
    at = next((i for i, c in enumerate(text) if c.isalnum()), None)
    if at is None or any(c.isdigit() or c in "@_/\\" for c in text.split()[0]):
        return text
    return text[:at] + text[at].upper() + text[at + 1 :]


# -- the parts of a hint -------------------------------------------------------------------------------------


def _after_objections(text: str, tokens: Sequence[_Token], at: int, question: str) -> int:
    """The place after "no", "well, actually", "wrong date," or "as I said,"; the "well" of "well done" is no opening."""
    words = [token.word for token in tokens]
    openings = OBJECTIONS if {*plain_words(question)} & _OF_SAYING else OBJECTIONS | REMINDERS
    while True:
        after = after_phrases(words, at, openings)
        if after == len(words):
            after = after_phrases(words, at, OBJECTIONS)  # "I told you already" is a protest
        end = next((n for n in range(after + 1, len(words)) if _ends_clause(text, tokens, n)), at)
        clause = words[at:end]
        if not clause or not _only_objects(clause, _after_announcements(clause, after - at)):
            break
        is_own = words[end] in _PERSONS | {"my", "our"} and not {*words[end + 1 : end + 2]} & _OF_TALKING
        if "you" in clause[:2] and _after_announcements(words, end) == end and not is_own:
            break  # "you forgot to halve it, that one is 12" goes on with the complaint; "you forgot, I go on Fridays" does not
        at = end
    is_adverb = at < after < len(words) and words[after - 1] == "well" and _DONE_WELL.search(words[after])
    return after - 1 if is_adverb else after


def _after_announcements(words: Sequence[str], at: int) -> int:
    """The place after "it's" or "you mean it's", but not after what begins a sentence of its own: "it was founded by"."""
    for _ in range(2):
        after = after_phrases(words, at, ANNOUNCEMENTS, most=1)
        if words[at : at + 1] in (["there's"], ["there"]) and words[after : after + 1] == ["no"]:
            break
        if words[min(at, len(words) - 1)] in PRONOUNS | PRONOUN_IS and _PARTICIPLE.search(
            words[min(after, len(words) - 1)]
        ):
            break
        at = after
    return at


def _after_what_the_reply_is(text: str, tokens: Sequence[_Token], at: int) -> int:
    """Of "that's Spanish, in Portuguese it's obrigado": the place after the first clause, which is about the reply.

    Not of "that's Priestley, I have it here": there the first clause is the answer.
    """
    words = [token.word for token in tokens]
    if at >= len(words) or words[at] not in ("that's", "thats"):
        return at
    for place in range(at + 2, len(words) - SHORTEST_FURTHER + 1):
        if _ends_clause(text, tokens, place):
            return at if words[place] in _OF_THE_SPEAKER else place
    return at


def _is_yes_or_no(question: str, words: Sequence[str]) -> bool:
    """The question is one of yes or no, and the hint begins with that and goes on: it is a part of the answer."""
    asked = plain_words(question)
    return bool(asked) and asked[0] in YES_NO_QUESTIONS and words[0] in ("yes", "no") and len(words) > 1


def _after_rejection(text: str, tokens: Sequence[_Token], first: int, question: str) -> tuple[int, str]:
    """Of "not Bergen but Oslo" or "Bergen is wrong, Oslo": the place of "Oslo", and "Bergen". Of other hints `first` and ""."""
    words = [token.word for token in tokens]
    at = after_phrases(words, first, OBJECTIONS | IT_IS)
    if words[at : at + 1] == ["not"]:
        end = _end_of_rejected(text, tokens, at + 1)
        return (end + (words[end] == "but"), _cut(text, tokens, at + 1, end)) if end < len(words) else (first, "")
    return _after_denial(text, tokens, first, question)


def _after_denial(text: str, tokens: Sequence[_Token], first: int, question: str) -> tuple[int, str]:
    """The same of "Bergen is wrong, it's Oslo" and "the capital isn't Bergen, it's Oslo"; also where no answer follows."""
    words, asked = [token.word for token in tokens], plain_words(question)
    is_statement = words[first : first + 1] == ["because"] or {"wrong", "false"} & {*asked}
    if (
        is_statement
        or asked[:1] in _WHETHER_OR_WHY
        or asked[:1] == ["how"]
        and not asks_for_a_fact_or_favourite(question)
    ):
        return first, ""
    clause = next((n for n in range(first + 1, len(words)) if _ends_clause(text, tokens, n)), len(words))
    for place in range(first, min(clause, first + _LONGEST_SUBJECT)):
        begin, end, after = first, place, after_phrases(words, place, IS_WRONG, most=1)
        says_no_more = after > place
        if not says_no_more:
            begin = after_phrases(words, place, IS_NOT, most=1)
            subject = {stem(word) for word in words[first:place] if word not in SMALL_WORDS}
            doubts = words[place] == "i"  # "I don't think it's"
            has_subject = place > first or doubts or "'" in words[place] and words[place].partition("'")[0] in PRONOUNS
            if begin == place or not has_subject or not subject <= {*map(stem, asked)}:
                continue
            end = after = _end_of_rejected(text, tokens, begin)
            says_no_more = _only_denies(text, tokens, begin - 1 if doubts else first, begin - 1, question)
        follows = after + (words[after : after + 1] == ["but"])
        if place < after < len(words) and (follows > after or end == after or _ends_clause(text, tokens, after)):
            says_no_more = _after_announcements(words, follows) > follows or len(words) - follows <= LONGEST_ALONE
        elif after < len(words):
            continue
        if says_no_more:
            return follows, _cut(text, tokens, begin, end)
    return first, ""


def _end_of_rejected(text: str, tokens: Sequence[_Token], begin: int) -> int:
    """Where "but" or the end of a clause follows what is rejected from `begin` on; the end of the hint where none does."""
    for end in range(begin + 1, len(tokens)):
        begins_again = after_phrases([token.word for token in tokens[end : end + 2]], 0, IT_IS, most=1)
        if _ends_clause(text, tokens, end) or (tokens[end].word == "but" or begins_again) and end + 1 < len(tokens):
            return end
    return len(tokens)


def _ends_clause(text: str, tokens: Sequence[_Token], place: int) -> bool:
    """Whether a clause or sentence ends before the word at `place`."""
    end = FURTHER_CLAUSE.search(text, tokens[place - 1].end, tokens[place].end)
    return end is not None and end.start() < tokens[place].start


def _only_objects(words: Sequence[str], begin: int) -> bool:
    """Nothing is left but what kind of thing is wrong: "wrong city", "that's not the right year", "no!"."""
    left = words[begin:]
    if not left or (left[0] == "you" and len(left) > 1 and left[1] in COMPLAINED_OF):
        return True
    objection = {"wrong", "incorrect", "not", "false", "bad"} & {*words}
    said = set(left) - SMALL_WORDS - {"wrong", "right", "correct", "incorrect", "bad"}
    return bool(objection) and said <= KINDS_OF_THING


def _only_denies(text: str, tokens: Sequence[_Token], first: int, begin: int, question: str) -> bool:
    """Of "it's not Bergen": whether it only says which name or number is not the answer. "She is not Danish" says more."""
    if tokens[first].word.partition("'")[0] in _PERSONS or not asks_for_a_fact_or_favourite(question):
        return False
    denied = text[tokens[begin].end :]
    is_named = any(c.isupper() or c.isdigit() for c in denied)
    return is_named and tokens[begin + 1].word not in NOT_DENIED


def _after_subject(words: Sequence[str], begin: int, question: str) -> int:
    """Of "the capital of norway is oslo", asked for Norway's capital, the place of "oslo"; else where it began."""
    asked = {stem(word) for word in plain_words(question)}
    for place in range(begin + 1, min(len(words) - 1, begin + _LONGEST_SUBJECT)):
        if words[place] in SUBJECT_ENDS:
            said = [word for word in words[begin:place] if word not in SMALL_WORDS]
            if said and all(stem(word) in asked for word in said):
                answer = after_phrases(words, place + 1, NAMED, most=1)
                return answer if answer < len(words) else place + 1
    return begin


def _before_subject(words: Sequence[str], begin: int, question: str) -> int:
    """Of "oslo is the capital", asked for a capital, the place after "oslo"; else where it ends."""
    asked = {stem(word) for word in plain_words(question)}
    for place in range(begin + 1, min(len(words) - 1, begin + _LONGEST_SUBJECT)):
        if words[place] in ("is", "was", "are", "were"):
            said = [word for word in words[place + 1 :] if word not in SMALL_WORDS or word == "not"]
            if said and all(stem(word) in asked for word in said):
                return place
    return len(words)


def _before_relative(words: Sequence[str], begin: int, end: int, question: str) -> int:
    """Of "it was Manet who painted it", asked who painted something, the place after "Manet"; else where it ends."""
    asked = {stem(word) for word in plain_words(question)}
    for place in range(begin + 1, end - 1):
        if words[place] in ("who", "that", "which"):
            said = [word for word in words[place + 1 : end] if word not in SMALL_WORDS]
            if said and all(stem(word) in asked for word in said):
                return place
    return end


def _before_ending(text: str, tokens: Sequence[_Token], begin: int) -> tuple[int, str]:
    """Where the answer ends, and what the hint calls wrong after it ("Oslo, not Bergen")."""
    words = [token.word for token in tokens]
    end, rejected = len(words), ""
    for place in range(begin + 1, end):
        after = after_phrases(words, place, INSTEAD, most=1)
        if place < after < end and not _is_negation(text, tokens, begin, place):
            rejected, end = _cut(text, tokens, after, end), place
            break
        after = after_phrases(words, place, YOU_SAID, most=1)
        if place < after < end and _ends_clause(text, tokens, place):
            rejected, end = _cut(text, tokens, after, end), place
            break
    tags = TAGS | ASKING_TAGS if text.endswith("?") else TAGS
    for place in range(end - 1, begin, -1):
        ending = tuple(words[place:end])
        if ending in ENDINGS or (ending in tags and _ends_clause(text, tokens, place)):
            end = place
    return end, rejected


def _is_negation(text: str, tokens: Sequence[_Token], begin: int, place: int) -> bool:
    """Whether a "not" belongs to a verb ("cats do not like water", "try not to shout") and rejects no other answer."""
    words = [token.word for token in tokens]
    if words[place] != "not" or _ends_clause(text, tokens, place):
        return False
    if words[place + 1] == "to" and "to" not in words[begin:place]:
        return True
    before = next((word for word in reversed(words[begin:place]) if word not in VERB_ADVERBS), "")
    pronoun, mark, _ = before.partition("'")
    return before in NEGATABLE or bool(mark) and pronoun in PRONOUNS | {"there"}


def _cut(text: str, tokens: Sequence[_Token], first: int, last: int) -> str:
    """The text of some words, with the marks that belong to them: "$5", "(1912-2005)", "'Oslo'"."""
    if first >= last or first >= len(tokens):
        return ""
    start = tokens[first - 1].end if first else 0
    end = tokens[last].start if last < len(tokens) else len(text)
    piece = text[start:end].strip()
    if first:  # what closed the opening: "no, ", "answer: ", "it is - "
        piece = re.sub(r"^[\s,;:!?…)\]–—-]*(?:\.+\s)?[\s,;:!?–—-]*", "", piece)
    piece = piece.rstrip(" ,;:!?…–—-")
    return piece if FURTHER_SENTENCE.search(piece) else re.sub(rf"(?<!\.){FULL_STOP}$", "", piece, flags=re.I)
