"""Export of one conversation, in its shown branch, as Markdown or JSON. Pure functions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.views import ConversationView, MessageView
from spear_core.errors import SpearError

MARKDOWN, JSON = "markdown", "json"
MEDIA_TYPES = {MARKDOWN: "text/markdown", JSON: "application/json"}
_ENDINGS = {MARKDOWN: "md", JSON: "json"}
_VERDICTS = {"better": "confirmed", "still_wrong": "still wrong"}
_NO_NAME = re.compile(r'[\x00-\x1f\\/:*?"<>|]+')  # not allowed in names on some file systems
MAX_NAME_CHARACTERS = 60


@dataclass(frozen=True)
class Exported:
    """A file to download."""

    name: str  # of the file
    media_type: str
    content: str


def exported(
    conversation: ConversationView, messages: Sequence[MessageView], system: str, model: str, form: str
) -> Exported:
    """A conversation as a file in the given format. Raises SpearError for an unknown format."""
    if form not in MEDIA_TYPES:
        raise SpearError(f"A conversation is exported as {MARKDOWN} or {JSON}, not as {form[:40]!r}.")
    as_text = _markdown if form == MARKDOWN else _json
    stem = " ".join(_NO_NAME.sub(" ", conversation.title).split())[:MAX_NAME_CHARACTERS].strip(" .") or "Conversation"
    return Exported(f"{stem}.{_ENDINGS[form]}", MEDIA_TYPES[form], as_text(conversation, messages, system, model))


def _markdown(conversation: ConversationView, messages: Sequence[MessageView], system: str, model: str) -> str:
    parts = [f"# {' '.join(conversation.title.split())}", f"{conversation.created_at_utc[:10]}, {model}"]
    if system:
        parts.append("\n".join(["**System prompt**", "", *(f"> {line}" for line in system.splitlines())]))
    for message in messages:
        parts += [f"## {_said_by(message)}", message.text.strip()]
    return "\n\n".join(parts) + "\n"


def _said_by(message: MessageView) -> str:
    if message.role == "user":
        return "You"
    if message.kind == "edit":
        return "Your wording"
    version = f" (v{message.adapter_version})" if message.adapter_version > 0 else ""
    verdict = _VERDICTS.get(message.verdict or "", "")
    kind = "Revision" if message.kind == "revision" else "Reply"
    return f"{kind}{version}{f', {verdict}' if verdict else ''}"


def _json(conversation: ConversationView, messages: Sequence[MessageView], system: str, model: str) -> str:
    content: dict[str, Any] = {
        "object": "conversation",
        "conversation_id": conversation.id,
        "title": conversation.title,
        "created_at_utc": conversation.created_at_utc,
        "model": model,
        "system_prompt": system,
        "messages": [
            {
                "message_id": m.id,
                "role": m.role,
                "kind": m.kind,
                "text": m.text,
                "vote": {1: "up", -1: "down"}.get(m.vote),
                "verdict": m.verdict,
                "hint": m.hint,
                "revises": m.revises,
                "corrects": m.corrects,
                "adapter_version": m.adapter_version if m.role == "assistant" else None,
                "ending": m.ending or None,
            }
            for m in messages
        ],
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"
