"""OpenAI's /v1/models and /v1/chat/completions, so that any front end that speaks them chats with a model that learns."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from itertools import chain
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from pydantic import Field, StrictBool
from starlette.responses import StreamingResponse

from feedback_store.errors import StoreError
from server.api.answers import CHAT_ID, EVENT_STREAM, UNCACHED, Finished, Usage, about, created_at, event, no_model
from server.api.asking import AnsweredIn, Session, Whole, each, reply_slot, unless_lost
from server.api.errors import error_body, refuse, status_of
from server.api.openai_fields import (
    MAX_MESSAGES,
    ChatMessage,
    Drawing,
    MaxTokens,
    StreamOptions,
    TextOnly,
    Tools,
    read_messages,
)
from services.app import AppServices
from services.chat.client_histories import conversation_for, read_history
from services.user_session import UserSession
from services.views import MessageView
from spear_core.errors import SpearError

router = APIRouter()


class ChatRequest(Drawing, Tools):
    """OpenAI's request; docs/API.md says what is honoured."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    stream: StrictBool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: MaxTokens
    max_completion_tokens: MaxTokens
    response_format: TextOnly = None
    learn: StrictBool | None = True  # ours: False keeps a new conversation out of all training


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "this machine"}


@router.get("/v1/models")
def models(session: Session) -> dict[str, Any]:
    return {"object": "list", "data": [_model(session.model.name)]}


@router.get("/v1/models/{name:path}")
def model(name: str, session: Session) -> Any:
    return _model(name) if name == session.model.name else no_model(name, session)


@router.post("/v1/chat/completions")
async def complete(asked: ChatRequest, session: Session, whole: Whole, threads: AnsweredIn) -> Any:
    """The reply, at once or streamed; `message_id` in it is what feedback is about."""
    return await to_thread.run_sync(partial(_complete, asked, session, whole, threads.replies), limiter=threads.replies)


def _complete(asked: ChatRequest, session: UserSession, whole: AppServices, threads: CapacityLimiter) -> Any:
    if asked.model != session.model.name:
        return no_model(asked.model, session)
    if sentence := asked.refusal():
        return refuse(400, sentence, param="tools")
    finished = Finished()
    views = _reply(asked, session, finished)
    if asked.stream:
        first = next(views)  # what cannot be answered at all is refused before the stream begins
        include_usage = bool(asked.stream_options and asked.stream_options.include_usage)
        events = _events(chain([first], views), views, session, whole, finished, include_usage)
        return StreamingResponse(each(events, threads), media_type=EVENT_STREAM, headers=UNCACHED)
    for view in views:
        last = view
    usage = Usage.of(last, session, whole, finished)
    message = {"role": "assistant", "content": last.text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": _reason(finished), "logprobs": None}
    return {**_head("chat.completion", last, session), "choices": [choice], "usage": usage.as_chat}


def _reply(asked: ChatRequest, session: UserSession, finished: Finished) -> Iterator[MessageView]:
    history = read_history(read_messages(asked.messages))
    drawn = asked.drawn(asked.max_completion_tokens or asked.max_tokens)
    with reply_slot():
        conversation_id = conversation_for(session, history, asked.learn is not False)
        yield from unless_lost(session.chat.reply(conversation_id, history.question, drawn=drawn, on_finish=finished))


def _reason(finished: Finished) -> str:
    return "length" if finished.is_cut else "stop"


def _head(kind: str, reply: MessageView, session: UserSession) -> dict[str, Any]:
    return {
        "id": CHAT_ID + reply.id,
        "object": kind,
        "created": created_at(reply),
        "model": session.model.name,
        "system_fingerprint": f"v{reply.adapter_version}",
        **about(reply),
    }


def _events(
    views: Iterator[MessageView],
    source: Any,
    session: UserSession,
    whole: AppServices,
    finished: Finished,
    include_usage: bool,
) -> Generator[str]:
    """Server-sent events: what each view adds to the one before."""
    sent = ""
    head: dict[str, Any] = {}
    last: MessageView | None = None

    def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return event({**head, "choices": [choice]})

    try:
        for view in views:
            last = view
            if not head:
                head = _head("chat.completion.chunk", view, session)
                yield chunk({"role": "assistant", "content": ""})
            if view.text != sent and view.text.startswith(sent):
                added, sent = view.text[len(sent) :], view.text
                yield chunk({"content": added})
        assert last is not None  # even an empty reply is one view
        usage = Usage.of(last, session, whole, finished)
        yield chunk({}, _reason(finished))
        if include_usage:
            yield event({**head, "choices": [], "usage": usage.as_chat})
        yield "data: [DONE]\n\n"
    except (SpearError, StoreError) as error:
        yield event(error_body(status_of(error), str(error)))
    finally:
        if last and not last.complete:  # where the client went away, the reply ends, and keeps what it has
            session.chat.stop(last.conversation_id, last.id, is_reader_lost=True)
        source.close()
