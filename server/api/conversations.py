"""/v1/conversations: one of the asking user's conversations as a file."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Response

from server.api.asking import Session
from services.chat.export import exported

router = APIRouter()


@router.get("/v1/conversations")
def conversations(session: Session, search: str = "") -> dict[str, Any]:
    """Newest first; with `search`, those whose title or messages contain it."""
    views = session.chat.conversations(search)
    data = [
        {
            "object": "conversation",
            "conversation_id": c.id,
            "title": c.title,
            "learn": c.learn,
            "created_at_utc": c.created_at_utc,
        }
        for c in views
    ]
    return {"object": "list", "data": data}


@router.get("/v1/conversations/{conversation_id}/export")
def export(conversation_id: str, session: Session, format: str = "markdown") -> Response:
    """The branch that is shown, as Markdown or JSON."""
    chat = session.chat
    found = exported(
        chat.conversation(conversation_id),
        chat.messages(conversation_id),
        chat.told(conversation_id),
        session.model.name,
        format,
    )
    attached = {"Content-Disposition": f"attachment; filename*=utf-8''{quote(found.name)}"}
    return Response(found.content, media_type=f"{found.media_type}; charset=utf-8", headers=attached)
