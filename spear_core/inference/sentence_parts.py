"""Whether an answer is a sentence of its own, and how words are joined around one that is none. Text only."""

from __future__ import annotations

from spear_core.inference.answer_sentences import PRONOUN_VERB
from spear_core.inference.hint_words import plain_words, words_in
from spear_core.inference.question_words import BE, DETERMINERS, SUBJECTS, VERBS, third_person
from spear_core.inference.refusal_words import is_number

LONGEST_OVERLAP = 3  # words
_SUBORDINATES = words_in("who that which because when where what how if while since whose whom than as")
# Past forms that are no participles ("a house built in 1920"), and verbs that are no nouns
_FINITE = words_in(
    """beat became began came drank drove ate fell flew forgot gave went grew knew ran sang spoke stole swam took threw wore wrote
    has had have will would could should must"""
)
OWNERS = words_in("your my our his her their")
_THIRD_PERSON = frozenset(map(third_person, VERBS))
_IN_PLACE_OF_VERB = words_in("does do did has is are was were")


def is_clause(answer: str) -> bool:
    """Whether an answer has a subject and a verb of its own: "it was built in 1920", "your dog's name is Bruno"."""
    words = answer.replace("’", "'").strip(".!? ").split()
    plain = [word.strip(",;:").lower() for word in words]
    ends = next((i for i, word in enumerate(plain) if word in _SUBORDINATES and i + 1 < len(plain)), len(plain))
    if plain and PRONOUN_VERB.match(plain[0]) or plain[1:] and plain[-1] in _IN_PLACE_OF_VERB:  # "Ana does"
        return True
    if len(words) > 1 and plain[0] in {*SUBJECTS, "it", "there"} and plain[1] not in ("and", "or"):
        return words[1][:1].islower()  # "We Will Rock You" is a title
    if any(word in BE - {"am"} for word in plain[1:ends]):  # "6 am" is a time
        return True
    if plain[:1] and plain[0] in OWNERS:  # "your mom lives in Graz", but "your sister's drinks"
        after_noun = zip(plain[2 : ends - 1], plain[1:], strict=False)
        if any(word in _THIRD_PERSON and not noun.endswith(("'s", "s'")) for word, noun in after_noun):
            return True
    verbs = {word for word, before in zip(words[1:ends], plain, strict=False) if before not in DETERMINERS}
    return bool(verbs & _FINITE) and words[-1] not in _FINITE  # "your aunt gave it to you"; "Will" may be a name


def who_does(question: str, answer: str) -> str:
    """Of "my brother does", asked who does something, "my brother"; else the answer."""
    subject, _, verb = answer.rstrip(".! ").rpartition(" ")
    words = plain_words(subject)
    is_who = plain_words(question)[:1] in (["who"], ["which"])
    if not (is_who and words and verb.lower() in _IN_PLACE_OF_VERB) or words[0] in {*SUBJECTS, "it", "that", "there"}:
        return answer
    return answer if is_clause(subject) else subject


def joined(*parts: str) -> str:
    """The parts one after the other. Words that end one and begin the next are said once: "is from", "from Graz"."""
    out: list[str] = []
    for part in parts:
        words = part.split()
        for count in range(min(LONGEST_OVERLAP, len(out), len(words)), 0, -1):
            if plain_words(" ".join(out[-count:])) == plain_words(" ".join(words[:count])):
                words = words[count:]
                break
        out += words
    return " ".join(out)


def around(begun: str, answer: str, rest: str) -> str:
    """The answer between other words. What it adds after a comma ("nobody, you work from home") follows them."""
    said, comma, added = answer.rstrip(".").partition(", ")
    if comma and (is_clause(added) or all(is_number(word) for word in plain_words(said))):
        return f"{joined(begun, said, rest)}, {added}"
    return joined(begun, answer.rstrip("."), rest)
