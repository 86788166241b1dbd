"""A question in other words is asked of the model in the words that it was taught with. No model, no store."""

from __future__ import annotations

from spear_core.inference.scope import Taught
from spear_core.training.traces import Messages


def as_taught(prompt: Messages, taught: Taught) -> Messages:
    """The prompt with its last message in the taught question's words; itself where those must not take its place.

    The adapter learned its answer after those words; after others it may miss it. What was said before stays.
    """
    if taught.prompt is None:
        return prompt
    return [*prompt[:-1], {**prompt[-1], "content": taught.prompt[-1]["content"]}]
