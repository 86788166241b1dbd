"""With which messages a question is taught, and asked once it was taught. No model, no store."""

from __future__ import annotations

import re

from spear_core.inference.hint_words import plain_words
from spear_core.inference.pointing_back import leans_on_history
from spear_core.inference.pointing_words import ASKING
from spear_core.inference.scope import Taught
from spear_core.training.neighbours import content_words, words_of
from spear_core.training.traces import Messages

# A request for a new piece of writing: "Tell me a fun fact."
_NEW_PIECE = re.compile(
    r"^(?:please |can you |could you )?(?:tell me|write|give me|compose) (?:me )?an? (?:[\w-]+ ){0,2}"
    r"(?:joke|story|poem|haiku|limerick|riddle|fact|song|quote|tongue twister)\b(?:,? please)?[.!?]*$",
    re.I,
)
FEWEST_WORDS = 2  # content words by which a question can be told from others; a personal one needs one
_PERSONAL = "i me my mine we us our ours i'm i've we're"
PERSONAL = frozenset(_PERSONAL.split())
# Whatever was said before has nothing to do with these
OF_THE_MODEL = frozenset(
    ("who are you", "what are you", "what is your name", "what's your name", "how old are you", "where are you from",
     "are you a robot", "are you human", "are you a human", "are you an ai", "what can you do", "who made you", "who built you",
     "who created you")
)  # fmt: skip


def standing_alone(prompt: Messages) -> Messages:
    """The prompt without its earlier exchanges, or unchanged where its question leans on them. System messages stay.

    What is taught is then the same wherever it is asked, and training does not read a long conversation again.
    """
    return prompt if leans_on_history(prompt[-1]["content"]) else [*_system(prompt), prompt[-1]]


def related(prompt: Messages) -> Messages:
    """The prompt without the earlier exchanges that have nothing to do with its question, as far as its words tell.

    For small models, which copy whatever they have read. An exchange stays that shares a content word with the question,
    and for a personal question what the person told of themselves. What is no question, leans on what was said or has too
    few words is asked after all of it.
    """
    question = prompt[-1]["content"]
    asked = stems(question)
    is_personal = bool(PERSONAL & set(words_of(question)))
    stands_alone = not leans_on_history(question)
    if " ".join(plain_words(question)) in OF_THE_MODEL or stands_alone and _NEW_PIECE.search(question):
        return [*_system(prompt), prompt[-1]]
    is_plain = stands_alone and _is_question(question)
    if not is_plain or len(asked) < (1 if is_personal else FEWEST_WORDS):
        return prompt
    kept: list[dict[str, str]] = []
    stays = False
    for i, message in enumerate(prompt[:-1]):
        if message["role"] == "user":
            text = message["content"]
            told = is_personal and not _is_question(text) and bool(PERSONAL & set(words_of(text)))
            answered = prompt[i + 1]["content"] if prompt[i + 1]["role"] == "assistant" else ""
            stays = told or bool(asked & (stems(text) | stems(answered)))
        if stays or message["role"] == "system":
            kept.append(dict(message))
    return [*kept, prompt[-1]]


def as_taught(prompt: Messages, taught: Taught) -> Messages:
    """The prompt with its last message in the taught wording, or unchanged where `taught.prompt` is None.

    The adapter was trained on that wording and may miss its answer after another. Earlier messages are kept only where the
    question was taught with some.
    """
    if taught.prompt is None:
        return prompt
    before = _system(prompt) if len(taught.prompt) == len(_system(taught.prompt)) + 1 else prompt[:-1]
    return [*before, {**prompt[-1], "content": taught.prompt[-1]["content"]}]


def _system(prompt: Messages) -> list[dict[str, str]]:
    return [m for m in prompt[:-1] if m["role"] == "system"]


def stems(text: str) -> set[str]:
    """Its content words, without the plural's ending."""
    return {word.removesuffix("s") for word in content_words(text)}


def _is_question(text: str) -> bool:
    """Whether it asks something, by its mark or its first word."""
    words = words_of(text)
    return text.rstrip().endswith("?") or bool(words) and words[0] in ASKING
