"""MessageView -> what gr.Chatbot shows. Pure functions; no service is called here.

Every shown message carries its UUID in its metadata. An event names a position in the list the browser shows, which may
be older than the stored one; looking the UUID up in that same shown list cannot hit the wrong message.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

from services.views import MessageView

BETTER, STILL_WRONG = "better", "still_wrong"
OPTION_LABELS = {BETTER: "Better", STILL_WRONG: "Still wrong"}
_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]+`)", re.DOTALL)
_VOTES = {1: "Like", -1: "Dislike", 0: None}
_VERDICTS = {BETTER: 1, STILL_WRONG: -1}


def as_text(text: str) -> str:
    """Markdown in which HTML and pictures stay text: a picture would be a request to whatever host the text names.

    Code is left as it is: Markdown escapes it by itself.
    """
    parts = _CODE.split(text)  # every second part is code
    return "".join(part if i % 2 else _defused(part) for i, part in enumerate(parts))


def _defused(markdown: str) -> str:
    return html.escape(markdown, quote=False).replace("![", "!\\[")


def _tag(message: MessageView) -> str:
    """The line above a reply that is not a first answer."""
    match message.kind:
        case "revision":
            labels = {BETTER: "Revision · confirmed", STILL_WRONG: "Revision · still wrong"}
            return f"###### {labels.get(message.verdict or '', 'Revision')}\n\n"
        case "edit":
            return "###### Your wording\n\n"
        case _:
            return ""


def chat_value(messages: Sequence[MessageView]) -> list[dict[str, Any]]:
    """The list gr.Chatbot shows. A revision that waits for a verdict offers its two buttons."""
    shown = []
    for message in messages:
        entry: dict[str, Any] = {
            "role": message.role,
            "content": _tag(message) + as_text(message.text or ("…" if not message.complete else "(no words)")),
            "metadata": {"id": message.id},
        }
        if message.can_be_judged and message.complete:
            entry["options"] = [
                {"value": f"{verdict}:{message.id}", "label": label} for verdict, label in OPTION_LABELS.items()
            ]
        shown.append(entry)
    return shown


def feedback_value(messages: Sequence[MessageView]) -> list[str | None]:
    """One entry for each assistant message, in order: the thumbs as they are stored. A verdict is a vote too."""
    return [
        _VOTES[_VERDICTS.get(message.verdict or "", message.vote)]
        for message in messages
        if message.role == "assistant"
    ]


def message_id_at(shown: Sequence[dict[str, Any]], index: int | Sequence[int]) -> str | None:
    """The UUID of the message at `index` of the list the browser showed when the event happened."""
    position = index if isinstance(index, int) else index[0]
    if not 0 <= position < len(shown):
        return None
    return (shown[position].get("metadata") or {}).get("id")


def read_option(value: str) -> tuple[str, str]:
    """`better:<uuid>` -> (`better`, uuid). Raises ValueError for anything else."""
    verdict, _, message_id = value.partition(":")
    if verdict not in OPTION_LABELS or not message_id:
        raise ValueError(f"not an option of a revision: {value!r}")
    return verdict, message_id


def find(messages: Sequence[MessageView], message_id: str | None) -> MessageView | None:
    return next((message for message in messages if message.id == message_id), None)


def quote(text: str, limit: int = 160) -> str:
    """The reply as the hint box quotes it: one escaped block, shortened."""
    short = text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
    return f"<blockquote>{html.escape(short)}</blockquote>"
