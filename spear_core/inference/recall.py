"""Replaces another wording of a taught question by the taught one. No model, no store."""

from __future__ import annotations

from spear_core.inference.scope import Taught
from spear_core.training.traces import Messages


def as_taught(prompt: Messages, taught: Taught) -> Messages:
    """The prompt with its last message in the taught wording, or unchanged where `taught.prompt` is None.

    The adapter was trained on that wording and may miss its answer after another. Earlier messages are kept.
    """
    if taught.prompt is None:
        return prompt
    return [*prompt[:-1], {**prompt[-1], "content": taught.prompt[-1]["content"]}]
