"""A reply of a thinking model as text: its thought between <think> and </think>, then its answer. No tokenizer.

The tags are those of Qwen3, DeepSeek-R1, SmolLM3 and most others. A thought is only looked for at the beginning of a
reply: what stands later is part of the answer.
"""

from __future__ import annotations

import re

OPEN, CLOSE = "<think>", "</think>"
NO_THOUGHT = f"{OPEN}\n\n{CLOSE}\n\n"  # as Qwen3's template writes it where thinking is switched off
_CLOSED = re.compile(rf"\s*{OPEN}(\s*)(.*?)(\s*){CLOSE}(\s*)(.*)", re.DOTALL)
_UNFINISHED = re.compile(rf"\s*{OPEN}(\s*)(.*)", re.DOTALL)


def split_thought(text: str) -> tuple[str, str]:
    """Thought and answer, without surrounding space. A thought that is not finished has an empty answer."""
    if found := _CLOSED.fullmatch(text):
        return found[2].strip(), found[5].strip()
    if found := _UNFINISHED.fullmatch(text):
        return found[2].strip(), ""
    return "", text


def answer_of(text: str) -> str:
    """What a reply says, without what was thought before."""
    return split_thought(text)[1]


def is_thinking(text: str) -> bool:
    """Whether a reply ends in the middle of its thought."""
    return text.lstrip().startswith(OPEN) and CLOSE not in text


def pieces(text: str) -> list[tuple[bool, str]]:
    """The reply in order, as (is it words?, text): tags with the space around them, and the words between them."""
    if found := _CLOSED.fullmatch(text):
        before, thought, between, after, answer = found.groups()
        head = [(False, OPEN + before), (True, thought), (False, between + CLOSE + after)]
        return [*(head if thought else [(False, OPEN + before + between + CLOSE + after)]), (True, answer)]
    if found := _UNFINISHED.fullmatch(text):
        return [(False, OPEN + found[1]), (True, found[2])]
    return [(True, text)]


def without_empty_thought(text: str) -> str:
    """The answer alone where nothing was thought; nothing yet while no word of a thought is there."""
    thought, answer = split_thought(text)
    return answer if text.lstrip().startswith(OPEN) and not thought else text
