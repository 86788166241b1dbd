"""The request for a revision where the hint does not state the answer, and the removal of introductions. No model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from spear_core.inference.hints import Hint, HintKind, capitalised, read_hint
from spear_core.models.prompts import revision_messages
from spear_core.models.settings import ModelSettings
from spear_core.training.traces import Messages

Attempts = Sequence[tuple[str, str]]  # (reply, hint on it), oldest first

# Small models follow this better than a request at the end of the conversation, where they repeat their reply.
REWRITE = "{reply}\n\nRewrite the text above. {hint}"
LONGEST_INTRODUCTION = 160  # characters
_INTRODUCTION = re.compile(
    r"^(?:(?:sure|certainly|of course|okay|ok|absolutely)\b[^\n:]{0,60}?[,.!:]?\s*)?"
    r"(?:here(?:'s|’s| is| are)|this is|below is)\b[^\n:]{0,110}"
    r"\b(?:version|text|answer|reply|response|revision|rewrite|sentence|note|message|email|letter|paragraph|translation)s?"
    r"\b[^\n:]{0,60}:\s*",
    re.IGNORECASE,
)
_MAY_INTRODUCE = ("here", "sure", "certainly", "of course", "okay", "ok", "absolutely", "this is", "below is")


def stated(attempts: Attempts, question: str) -> Hint | None:
    """The hint that states the answer: the last one, or an earlier one where the later ones only object; else None."""
    for _, said in reversed(attempts):
        hint = read_hint(said, question)
        if hint.kind is HintKind.STATES:
            return hint
        if hint.kind is not HintKind.OBJECTS:
            return None
    return None


def request_messages(prompt: Messages, attempts: Attempts, settings: ModelSettings) -> list[dict[str, str]]:
    """The messages that ask for a revision; the last one is the request.

    A hint that asks for another form is asked about the text alone. Other hints are appended to the conversation, in the
    wording of the model's settings.
    """
    reply, said = attempts[-1]
    if settings.revise_by_request_only or read_hint(said).kind is not HintKind.ASKS:
        return revision_messages(list(prompt), attempts, settings)
    hint = capitalised(" ".join(said.split()))
    hint = hint if hint[-1] in ".!?" else hint + "."
    system = [dict(m) for m in prompt if m["role"] == "system"]
    text = REWRITE.replace("{hint}", hint).replace("{reply}", reply)
    return [*system, {"role": "user", "content": text}]


def without_introduction(text: str, *, is_over: bool) -> str:
    """A revision without an introduction such as "Here is a shorter version of the text:".

    While `is_over` is False, a text that may become such an introduction gives an empty one.
    """
    found = _INTRODUCTION.match(text)
    if found:
        rest = text[found.end() :].strip()
        quoted = len(rest) > 1 and rest[0] in '"“' and (not is_over or rest[-1] in '"”')
        rest = rest[1:].removesuffix(rest[-1]) if quoted and is_over else rest.lstrip('"“') if quoted else rest
        return rest.strip() or (text if is_over else "")
    may_become = len(text) < LONGEST_INTRODUCTION and ":" not in text and "\n" not in text
    lower = text.lower()
    if not is_over and may_become and any(lower.startswith(w) or w.startswith(lower) for w in _MAY_INTRODUCE):
        return ""
    return text
