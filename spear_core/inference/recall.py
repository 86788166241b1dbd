"""With which messages a question is taught, and asked once it was taught. No model, no store."""

from __future__ import annotations

from spear_core.inference.scope import Taught, leans_on_history
from spear_core.training.traces import Messages


def standing_alone(prompt: Messages) -> Messages:
    """The prompt without its earlier exchanges, or unchanged where its question leans on them. System messages stay.

    What is taught is then the same wherever it is asked, and training does not read a long conversation again.
    """
    return prompt if leans_on_history(prompt[-1]["content"]) else [*_system(prompt), prompt[-1]]


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
