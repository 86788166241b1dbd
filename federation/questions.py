"""The taught questions that an update may carry, so that peers know what its adapter is for. Never their answers.

What is written is cut to the limits; what arrives must keep to them, in its one canonical form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from federation.canonical_json import canonical_json, strict_json
from federation.errors import UpdateRefused

MAX_QUESTIONS = 256
MAX_CHARACTERS = 200  # of each; longer ones are texts rather than questions, and are left out
MAX_BYTES = 1 << 16  # of all, as JSON: a header of MAX_HEADER_BYTES has room for them and some 6,000 tensors
_JOINERS = dict.fromkeys(map(ord, "\u200c\u200d"))  # invisible, and parts of words and emoji


def is_plain(question: str) -> bool:
    """Whether this is one line of printable words, single spaces between them, within MAX_CHARACTERS."""
    spaced = question == " ".join(question.split())
    return spaced and 0 < len(question) <= MAX_CHARACTERS and question.translate(_JOINERS).isprintable()


def shareable(questions: Iterable[str]) -> tuple[str, ...]:
    """The latest that fit, each once, as one line of words; the order stays. `questions` are oldest first."""
    each = dict.fromkeys(reversed([" ".join(question.split()) for question in questions]))
    kept: list[str] = []
    room = MAX_BYTES - len("[]")
    for question in filter(is_plain, each):
        room -= len(canonical_json(question)) + len(",")
        if room < 0 or len(kept) == MAX_QUESTIONS:
            break
        kept.append(question)
    return tuple(reversed(kept))


def questions_text(questions: Iterable[str]) -> str:
    """The canonical form. Raises UpdateRefused as `read_questions`."""
    text = canonical_json(list(questions))
    read_questions(text)
    return text


def digest_of_text(text: str) -> str:
    """64 hex digits, for the manifest."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_questions(text: str) -> tuple[str, ...]:
    """Raises UpdateRefused unless `text` is the canonical form of 1 to MAX_QUESTIONS different plain questions."""
    if len(text) > MAX_BYTES:
        raise UpdateRefused(f"the update's questions are longer than the {MAX_BYTES} bytes that are taken")
    try:
        values = strict_json(text)
    except ValueError as e:
        raise UpdateRefused("the update's questions are not JSON") from e
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UpdateRefused("the update's questions are not a list of texts")
    if not 0 < len(values) <= MAX_QUESTIONS or len(set(values)) != len(values):
        raise UpdateRefused(f"the update's questions are not 1 to {MAX_QUESTIONS} different ones")
    if not all(map(is_plain, values)):
        raise UpdateRefused(
            f"one of the update's questions is not one line of words with at most {MAX_CHARACTERS} characters"
        )
    if canonical_json(values) != text:
        raise UpdateRefused("the update's questions are not in their canonical form")
    return tuple(values)
