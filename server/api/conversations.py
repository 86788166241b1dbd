"""/v1/conversations: the asking user's conversations in pages, and one of them as a file."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Response

from server.api.asking import Limit, Session
from services.chat.export import exported

router = APIRouter()


@router.get("/v1/conversations")
def conversations(session: Session, search: str = "", limit: Limit = 1000, after: str | None = None) -> dict[str, Any]:
    """Newest first, in pages as OpenAI's lists; with `search`, those whose title or messages contain it."""
    views = session.chat.conversations(search, limit + 1, after)
    data = [
        {
            "id": c.id,
            "object": "conversation",
            "conversation_id": c.id,
            "title": c.title,
            "learn": c.learn,
            "created_at_utc": c.created_at_utc,
        }
        for c in views[:limit]
    ]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, **ends, "has_more": len(views) > limit}


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
