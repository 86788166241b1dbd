"""A reply that begins as an earlier one did, although something else was asked. No model, no store.

Small models copy: once "Your cat is called Luna." stands in a conversation, greedy decoding gives it for whatever is asked
next. Such a reply is written again without the exchanges that it copies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

from spear_core.inference.pointing_back import leans_on_history
from spear_core.inference.recall import stems
from spear_core.models.thoughts import OPEN
from spear_core.training.judge import normalised
from spear_core.training.traces import Messages

FEWEST_CHARACTERS = 15  # of a beginning: many answers begin with "The capital of"
MOST_CHARACTERS = 60
MOST_REWRITTEN = 2  # times: the next reply may copy another one; then the question is asked alone
LONGEST_REQUEST = 60  # characters of a message that asks for another reply
_ANOTHER = re.compile(
    r"\b(?:another(?: \w+)?|a different \w+|something else|one more)[.!?]*(?:,? please[.!?]*)?\s*$", re.I
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")


@dataclass(frozen=True)
class _Exchange:
    """An earlier message of the person and a reply that can be recognised.

    Attributes:
        place: of the reply among the messages.
        said: the person's message.
        beginning: of the reply.
    """

    place: int
    said: str
    beginning: str


def beginning(reply: str) -> str:
    """The first sentences of a reply by which a copy is recognised; "" of one that is too short to tell, or that begins
    with a thought: thoughts begin alike.
    """
    text = reply.strip()
    if len(text) < FEWEST_CHARACTERS or text.startswith(OPEN):
        return ""
    ends = [m.end() for m in _SENTENCE_END.finditer(text) if m.end() >= FEWEST_CHARACTERS]
    return text[: min([*ends, len(text), MOST_CHARACTERS])].strip()


def not_again(prompt: Messages) -> set[str]:
    """The earlier replies, as they are compared, where another one is asked for ("Another one, please."); else none."""
    question = prompt[-1]["content"]
    if len(question) > LONGEST_REQUEST or not _ANOTHER.search(question):
        return set()
    return {normalised(m["content"]) for m in prompt if m["role"] == "assistant"} - {""}


def without_copies(
    prompt: Messages,
    write: Callable[[Messages], Generator[str]],
) -> Iterator[str]:
    """The texts that `write` yields for the prompt, each the whole reply so far, or for it without what the reply copies.

    What may become a copy is held back until it is one or goes on otherwise: a sentence at most. A copy stays where the
    question leans on what was said, or names nothing that an exchange that it copies does not name.

    Args:
        prompt: the messages, the question last.
        write: decodes a reply to messages.
    """
    for _ in range(MOST_REWRITTEN):
        earlier = [] if leans_on_history(prompt[-1]["content"]) else _exchanges(prompt)
        held = ""
        texts = write(prompt)
        for text in texts:
            held, started = text, text.lstrip()
            copied = [e for e in earlier if started.startswith(e.beginning)]
            if copied and _is_copy(prompt, copied):
                break
            if copied or not any(e.beginning.startswith(started) for e in earlier):
                yield text
                yield from texts
                return
        else:
            if held:
                yield held
            return
        texts.close()
        gone = {place for e in copied for place in (e.place - 1, e.place)}
        prompt = [m for place, m in enumerate(prompt) if place not in gone]
    yield from write([*(m for m in prompt[:-1] if m["role"] == "system"), prompt[-1]])


def _exchanges(prompt: Messages) -> list[_Exchange]:
    return [
        _Exchange(i, prompt[i - 1]["content"], start)
        for i, message in enumerate(prompt[:-1])
        if message["role"] == "assistant"
        and i > 0
        and prompt[i - 1]["role"] == "user"
        and (start := beginning(message["content"]))
    ]


def _is_copy(prompt: Messages, copied: Sequence[_Exchange]) -> bool:
    """Whether none of these exchanges has all that is asked for: "What is my dog called?" names a dog."""
    asked = stems(prompt[-1]["content"])
    return not any(asked <= stems(f"{e.said} {e.beginning}") for e in copied)
