"""OpenAI's /v1/models and /v1/chat/completions, so that any front end that speaks them chats with a model that learns."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from functools import partial
from itertools import chain
from typing import Any, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from pydantic import BaseModel, Field, StrictBool, field_validator
from starlette.responses import Response, StreamingResponse

from feedback_store.errors import StoreError
from server.api.asking import AnsweredIn, Session, Whole, each, reply_slot
from server.api.errors import error_body, refuse, status_of
from services.app import AppServices
from services.chat.client_histories import History, Said, conversation_for, read_history
from services.chat.conversation_tree import prompt_up_to
from services.user_session import UserSession
from services.views import MessageView
from spear_core.errors import SpearError

router = APIRouter()
ID_PREFIX = "chatcmpl-"
MAX_MESSAGES = 2000


class Part(BaseModel):
    type: Literal["text"]
    text: str


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None = None

    @field_validator("content", mode="before")
    @classmethod
    def only_text(cls, content: Any) -> Any:
        is_text = content is None or isinstance(content, str)
        if not is_text and not (isinstance(content, list) and all(_is_text(part) for part in content)):
            raise ValueError("only text can be read here: a string, or parts of type text")
        return content

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(BaseModel):
    include_usage: StrictBool = False


class ChatRequest(BaseModel):
    """Of OpenAI's parameters those that matter here. Sampling is the server's: temperature and the like are ignored.

    `max_completion_tokens` (or the older `max_tokens`) is the longest reply; a reply that reaches it ends with the
    finish_reason `length`.
    """

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    stream: StrictBool | None = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = 1
    max_completion_tokens: int | None = Field(default=None, ge=1, le=100_000)
    max_tokens: int | None = Field(default=None, ge=1, le=100_000)
    tools: list[Any] | None = Field(default=None, max_length=0)
    learn: StrictBool = True  # ours: False keeps a new conversation out of all training


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "this machine"}


@router.get("/v1/models")
def models(session: Session) -> dict[str, Any]:
    return {"object": "list", "data": [_model(session.model.name)]}


@router.get("/v1/models/{name:path}")
def model(name: str, session: Session) -> Any:
    return _model(name) if name == session.model.name else _no_model(name, session)


@router.post("/v1/chat/completions")
async def complete(asked: ChatRequest, session: Session, whole: Whole, threads: AnsweredIn) -> Any:
    """The reply, at once or streamed; `message_id` in it is what feedback is about."""
    return await to_thread.run_sync(partial(_complete, asked, session, whole, threads.replies), limiter=threads.replies)


def _complete(asked: ChatRequest, session: UserSession, whole: AppServices, threads: CapacityLimiter) -> Any:
    if asked.model != session.model.name:
        return _no_model(asked.model, session)
    role = {"developer": "system"}
    history = read_history([Said(role.get(m.role, m.role), m.text) for m in asked.messages])
    views = _reply(session, history, asked.learn, asked.max_completion_tokens or asked.max_tokens or 0)
    if asked.stream:
        first = next(views)  # what cannot be answered at all is refused before the stream begins
        include_usage = bool(asked.stream_options and asked.stream_options.include_usage)
        events = _events(chain([first], views), views, session, whole, include_usage)
        return StreamingResponse(
            each(events, threads), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
        )
    for view in views:
        last = view
    usage, finish = _usage(last, session, whole)
    message = {"role": "assistant", "content": last.text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return {**_head("chat.completion", last, session), "choices": [choice], "usage": usage}


def _reply(session: UserSession, history: History, learn: bool, max_new_tokens: int) -> Iterator[MessageView]:
    with reply_slot():
        conversation_id = conversation_for(session, history, learn)
        yield from session.chat.reply(conversation_id, history.question, max_new_tokens)


def _head(kind: str, reply: MessageView, session: UserSession) -> dict[str, Any]:
    return {
        "id": ID_PREFIX + reply.id,
        "object": kind,
        "created": int(time.time()),
        "model": session.model.name,
        "system_fingerprint": f"v{reply.adapter_version}",
        "message_id": reply.id,
        "conversation_id": reply.conversation_id,
        "adapter_version": reply.adapter_version,
    }


def _events(
    views: Iterator[MessageView], source: Any, session: UserSession, whole: AppServices, include_usage: bool
) -> Generator[str]:
    """Server-sent events: what each view adds to the one before."""
    sent = ""
    head: dict[str, Any] = {}

    def event(delta: dict[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return _event({**head, "choices": [choice]})

    try:
        for view in views:
            if not head:
                head = _head("chat.completion.chunk", view, session)
                yield event({"role": "assistant", "content": ""})
            if view.text != sent and view.text.startswith(sent):
                added, sent = view.text[len(sent) :], view.text
                yield event({"content": added})
            last = view
        usage, finish = _usage(last, session, whole)
        yield event({}, finish)
        if include_usage:
            yield _event({**head, "choices": [], "usage": usage})
        yield "data: [DONE]\n\n"
    except (SpearError, StoreError) as error:
        yield _event(error_body(status_of(error), str(error)))
    finally:
        if head:  # where the client went away, the reply ends, and keeps what it has
            session.chat.stop(head["conversation_id"], is_reader_lost=True)
        source.close()


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"


def _usage(reply: MessageView, session: UserSession, whole: AppServices) -> tuple[dict[str, int], str]:
    """Tokens of prompt and reply, and why the reply ended: `length` where it was cut off."""
    engine = whole.engine
    stored = session.store.message(reply.id)
    prompt = prompt_up_to(session.store.messages(reply.conversation_id), stored.parent_id or "")
    encoded = engine.encoder.plain(prompt, reply.text)
    completion = len(encoded.completion_ids) - (reply.ending not in ("", "ended"))  # no end token was written
    usage = {
        "prompt_tokens": len(encoded.prompt_ids),
        "completion_tokens": completion,
        "total_tokens": len(encoded.prompt_ids) + completion,
    }
    return usage, "length" if reply.ending == "length" else "stop"


def _no_model(name: str, session: UserSession) -> Response:
    sentence = f"The model {name[:80]!r} is not here; this server has {session.model.name!r}."
    return refuse(404, sentence, param="model", code="model_not_found")
