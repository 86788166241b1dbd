"""A reply of a thinking model as text: its thought between <think> and </think>, then its answer. No tokenizer.

The tags are those of Qwen3, DeepSeek-R1, SmolLM3 and most others. A thought is only looked for at the beginning of a
reply: what stands later is part of the answer.
"""

from __future__ import annotations

from typing import NamedTuple

OPEN, CLOSE = "<think>", "</think>"
NO_THOUGHT = f"{OPEN}\n\n{CLOSE}\n\n"  # as Qwen3's template writes it where thinking is switched off


class _Parts(NamedTuple):
    """A reply that begins with a thought, in order. `closed`: whether the thought has ended."""

    before: str  # space after the opening tag
    thought: str
    between: str  # space before the closing tag
    after: str  # and after it
    answer: str
    closed: bool


def _parts(text: str) -> _Parts | None:
    """None for a reply that does not begin with a thought. One look at every character, whatever the text is."""
    begun = text.lstrip()
    if not begun.startswith(OPEN):
        return None
    inside, tag, rest = begun[len(OPEN) :].partition(CLOSE)
    words = inside.lstrip()
    before = inside[: len(inside) - len(words)]
    if not tag:
        return _Parts(before, words, "", "", "", closed=False)
    thought, answer = words.rstrip(), rest.lstrip()
    return _Parts(before, thought, words[len(thought) :], rest[: len(rest) - len(answer)], answer, closed=True)


def split_thought(text: str) -> tuple[str, str]:
    """Thought and answer, without surrounding space. A thought that is not finished has an empty answer."""
    parts = _parts(text)
    return (parts.thought.strip(), parts.answer.strip()) if parts else ("", text)


def answer_of(text: str) -> str:
    """What a reply says, without what was thought before."""
    return split_thought(text)[1]


def is_thinking(text: str) -> bool:
    """Whether a reply ends in the middle of its thought."""
    return text.lstrip().startswith(OPEN) and CLOSE not in text


def pieces(text: str) -> list[tuple[bool, str]]:
    """The reply in order, as (is it words?, text): tags with the space around them, and the words between them."""
    parts = _parts(text)
    if parts is None:
        return [(True, text)]
    if not parts.closed:
        return [(False, OPEN + parts.before), (True, parts.thought)]
    end = parts.between + CLOSE + parts.after
    if not parts.thought:
        return [(False, OPEN + parts.before + end), (True, parts.answer)]
    return [(False, OPEN + parts.before), (True, parts.thought), (False, end), (True, parts.answer)]


def without_empty_thought(text: str) -> str:
    """The answer alone where nothing was thought; nothing yet while no word of a thought is there."""
    thought, answer = split_thought(text)
    return answer if text.lstrip().startswith(OPEN) and not thought else text
