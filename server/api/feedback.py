"""/v1/feedback: a vote, a hint, an edited answer, or a verdict on a revision, about one message."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from anyio import to_thread
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from server.api.answers import message_id as named_message
from server.api.asking import AnsweredIn, Session, reply_slot, unless_lost
from server.api.learning import status_view
from server.api.openai_fields import MAX_MESSAGES, ChatMessage, read_messages
from services.chat.client_histories import reply_at_the_end
from services.settings import MAX_MESSAGE_CHARACTERS
from services.user_session import UserSession
from services.views import MessageView

router = APIRouter()


class Feedback(BaseModel):
    """Exactly one of vote, hint, edit and verdict; a hint may come with the vote `down`, which it means anyway.

    About a message by its id, or, for clients that keep no ids, about the reply with which `messages` end.
    """

    model_config = ConfigDict(extra="forbid")
    message_id: str | None = None
    messages: list[ChatMessage] | None = Field(default=None, min_length=1, max_length=MAX_MESSAGES)
    vote: Literal["up", "down", "none"] | None = None
    hint: str | None = Field(default=None, max_length=MAX_MESSAGE_CHARACTERS)
    edit: str | None = Field(default=None, max_length=MAX_MESSAGE_CHARACTERS)
    verdict: Literal["better", "still_wrong", "declined"] | None = None

    @model_validator(mode="after")
    def one_thing(self) -> Feedback:
        if self.hint is not None and self.vote == "down":
            self.vote = None
        said = [name for name in ("vote", "hint", "edit", "verdict") if getattr(self, name) is not None]
        if (self.message_id is None) == (self.messages is None):
            raise ValueError("say what it is about: message_id, or messages that end with the reply")
        if len(said) != 1:
            raise ValueError(f"say one of vote, hint, edit and verdict, not {' and '.join(said) or 'none of them'}")
        return self


@router.post("/v1/feedback")
async def feedback(said: Feedback, session: Session, threads: AnsweredIn) -> dict[str, Any]:
    """Stored when this returns. A hint is answered by a revision, which waits for a verdict."""
    limiter = threads.words if said.hint is None else threads.replies
    return await to_thread.run_sync(partial(_feedback, said, session), limiter=limiter)


def _feedback(said: Feedback, session: UserSession) -> dict[str, Any]:
    if said.messages is not None:
        message_id = reply_at_the_end(session, read_messages(said.messages))
    else:
        message_id = named_message(said.message_id or "")
    made, more_hints = _take(said, message_id, session)
    with session.store.at_one_moment():
        return {
            "object": "feedback",
            "message": _message(session.chat.message(message_id)),
            "revision": _message(session.chat.message(made.id)) if made else None,
            "more_hints_allowed": more_hints,
            "learning": status_view(session.learning.status()),
        }


def _take(said: Feedback, message_id: str, session: UserSession) -> tuple[MessageView | None, bool | None]:
    """The revision or edit that this made, and, after `still_wrong`, whether another hint may be given."""
    match said:
        case Feedback(hint=str(hint)):
            with reply_slot():
                return list(unless_lost(session.chat.revise(message_id, hint)))[-1], None
        case Feedback(edit=str(text)):
            return session.feedback.edit(message_id, text), None
        case Feedback(verdict="better"):
            session.feedback.better(message_id)
        case Feedback(verdict="declined"):
            session.feedback.decline(message_id)
        case Feedback(verdict="still_wrong"):
            return None, session.feedback.still_wrong(message_id)
        case Feedback(vote="up"):
            session.feedback.like(message_id)
        case Feedback(vote="down"):
            session.feedback.dislike(message_id)
        case _:
            session.feedback.clear_vote(message_id)
    return None, None


def _message(view: MessageView) -> dict[str, Any]:
    return {
        "message_id": view.id,
        "conversation_id": view.conversation_id,
        "kind": view.kind,
        "text": view.text,
        "vote": {1: "up", -1: "down", 0: "none"}[view.vote],
        "verdict": view.verdict,
        "hint": view.hint,
        "revises": view.revises,
        "corrects": view.corrects,
        "adapter_version": view.adapter_version,
    }
