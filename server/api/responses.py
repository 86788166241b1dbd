"""OpenAI's /v1/responses, as far as text goes: create, stream, continue with previous_response_id, retrieve."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import chain
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, StrictBool, ValidationInfo, field_validator
from starlette.responses import StreamingResponse

from feedback_store.errors import StoreError
from server.api.answers import (
    EVENT_STREAM,
    OUTPUT_ID,
    RESPONSE_ID,
    UNCACHED,
    Finished,
    Usage,
    about,
    created_at,
    event,
    message_id,
    no_model,
)
from server.api.asking import AnsweredIn, Session, Whole, each, reply_slot, unless_lost
from server.api.errors import error_body, refuse, status_of
from server.api.openai_fields import MAX_MESSAGES, ROLES, Drawing, MaxTokens, TextOnly, Tools, read_text
from services.app import AppServices
from services.chat.client_histories import Said, conversation_for, read_history
from services.user_session import UserSession
from services.views import MessageView
from spear_core.errors import SpearError

router = APIRouter()
TOOL_CALLS = ("function_call", "reasoning")  # said elsewhere, and no text of the conversation
TOOL_RESULTS = ("function_call_output",)


class TextSettings(BaseModel):
    format: TextOnly = None


def _items(value: Any) -> Any:
    """A text is one message of the user; every item is a message, or what a tool said elsewhere."""
    if isinstance(value, str):
        return [Said("user", value)]
    if not isinstance(value, list) or len(value) > MAX_MESSAGES:
        raise ValueError(f"a text, or up to {MAX_MESSAGES} items")
    said = []
    for item in value:
        kind = item.get("type", "message") if isinstance(item, dict) else None
        role = item.get("role") if isinstance(item, dict) else None
        if kind in TOOL_CALLS:
            continue
        if kind in TOOL_RESULTS:
            said.append(Said("user", f"Result of the tool:\n{read_text(item.get('output'))}"))
        elif kind == "message" and isinstance(role, str) and role in ROLES:
            said.append(Said(ROLES[role], read_text(item.get("content"))))
        else:
            raise ValueError("an item is a message with role and text, or what a tool said")
    return said


class ResponseRequest(Drawing, Tools):
    """OpenAI's request; docs/API.md says what is honoured."""

    model: str
    input: Annotated[list[Said], BeforeValidator(_items)]
    instructions: str | None = None
    previous_response_id: str | None = None
    max_output_tokens: MaxTokens
    stream: StrictBool | None = False
    text: TextSettings | None = None
    background: StrictBool | None = None
    conversation: Any = None
    prompt: Any = None
    store: StrictBool | None = None
    metadata: dict[str, Any] | None = None
    reasoning: Any = None
    learn: StrictBool | None = True  # ours, as in chat completions

    @field_validator("background", "conversation", "prompt", "reasoning")
    @classmethod
    def is_not_here(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name == "reasoning" and isinstance(value, dict):
            value = any(v not in (None, "none") for v in value.values())
        if value:
            raise ValueError("this cannot be honoured here; leave it out")
        return value


@router.post("/v1/responses")
async def create(asked: ResponseRequest, session: Session, whole: Whole, threads: AnsweredIn) -> Any:
    """The reply, at once or streamed. Its id, and that of its message, are what feedback is about."""
    return await to_thread.run_sync(partial(_create, asked, session, whole, threads.replies), limiter=threads.replies)


@router.get("/v1/responses/{response_id}")
def retrieve(response_id: str, session: Session, whole: Whole) -> Any:
    """A reply as it stands: under way without its text, or over."""
    view = session.chat.message(message_id(response_id))
    if view.role != "assistant":
        return refuse(404, f"There is no response {response_id[:80]!r}.")
    asked = ResponseRequest.model_validate({"model": session.model.name, "input": ""})
    answer = _Answer(asked, session, whole, Finished.of(view))
    return answer.body(view, _status(view))


def _create(asked: ResponseRequest, session: UserSession, whole: AppServices, threads: CapacityLimiter) -> Any:
    if asked.model != session.model.name:
        return no_model(asked.model, session)
    if sentence := asked.refusal():
        return refuse(400, sentence, param="tools")
    finished = Finished()
    answer = _Answer(asked, session, whole, finished)
    views = _reply(asked, session, finished)
    if asked.stream:
        first = next(views)  # what cannot be answered at all is refused before the stream begins
        return StreamingResponse(
            each(answer.events(chain([first], views), views), threads), media_type=EVENT_STREAM, headers=UNCACHED
        )
    for view in views:
        last = view
    return answer.body(last, _status(last))


def _reply(asked: ResponseRequest, session: UserSession, finished: Finished) -> Iterator[MessageView]:
    system = [Said("system", asked.instructions)] if asked.instructions else []
    drawn = asked.drawn(asked.max_output_tokens)
    learn = asked.learn is not False and asked.store is not False
    with reply_slot():
        if asked.previous_response_id is None:
            history = read_history([*system, *asked.input])
            conversation_id, after = conversation_for(session, history, learn), None
        else:
            before = session.chat.message(message_id(asked.previous_response_id))
            conversation_id, after = before.conversation_id, before.revises or before.id
            history = read_history(asked.input)
            if history.turns:
                raise SpearError("After a previous response, the input is what the user says next.")
            if told := asked.instructions or history.system:
                session.chat.set_system_prompt(conversation_id, told)
        question = history.question
        views = session.chat.reply(conversation_id, question, after=after, drawn=drawn, on_finish=finished)
        yield from unless_lost(views)


class _Answer:
    """One response, as a body or as events."""

    def __init__(self, asked: ResponseRequest, session: UserSession, whole: AppServices, finished: Finished) -> None:
        self._asked = asked
        self._session = session
        self._whole = whole
        self._finished = finished

    def body(self, reply: MessageView, status: str) -> dict[str, Any]:
        asked, is_over = self._asked, status in ("completed", "incomplete")
        return {
            "id": RESPONSE_ID + reply.id,
            "object": "response",
            "created_at": created_at(reply),
            "status": status,
            "error": None,
            # OpenAI has no reason for a reply that was stopped or lost
            "incomplete_details": {"reason": "max_output_tokens"} if reply.ending == "length" else None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "model": self._session.model.name,
            "output": [self._message(reply, status)] if is_over else [],
            "parallel_tool_calls": False,
            "previous_response_id": asked.previous_response_id,
            "reasoning": {"effort": None, "summary": None},
            "store": True,
            "temperature": asked.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": asked.top_p,
            "truncation": "auto",
            "usage": self._usage(reply) if is_over else None,
            **about(reply),
        }

    def _usage(self, reply: MessageView) -> dict[str, Any]:
        usage = Usage.of(reply, self._session, self._whole, self._finished)
        return {
            "input_tokens": usage.prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt + usage.completion,
        }

    def _message(self, reply: MessageView, status: str) -> dict[str, Any]:
        return {
            "id": OUTPUT_ID + reply.id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [_part(reply.text)] if status != "in_progress" else [],
        }

    def events(self, views: Iterator[MessageView], source: Any) -> Generator[str]:
        """Server-sent events, each with a number of its own."""
        number = -1
        sent = ""
        last: MessageView | None = None
        place: dict[str, Any] = {}

        def say(kind: str, **content: Any) -> str:
            nonlocal number
            number += 1
            return event({"type": kind, "sequence_number": number, **content}, kind)

        try:
            for view in views:
                last = view
                if not place:
                    place = {"item_id": OUTPUT_ID + view.id, "output_index": 0, "content_index": 0}
                    yield from self._opened(view, place, say)
                if view.text != sent and view.text.startswith(sent):
                    added, sent = view.text[len(sent) :], view.text
                    yield say("response.output_text.delta", **place, delta=added, logprobs=[])
            assert last is not None  # even an empty reply is one view
            yield from self._closed(last, place, say)
        except (SpearError, StoreError) as error:
            said = error_body(status_of(error), str(error))["error"]
            assert isinstance(said, dict)
            yield say("error", code=said["code"], message=said["message"], param=None)
        finally:
            if last and not last.complete:  # where the client went away, the reply ends, and keeps what it has
                self._session.chat.stop(last.conversation_id, last.id, is_reader_lost=True)
            source.close()

    def _opened(self, view: MessageView, place: dict[str, Any], say: Callable[..., str]) -> Iterator[str]:
        begun = self.body(view, "in_progress")
        yield say("response.created", response=begun)
        yield say("response.in_progress", response=begun)
        yield say("response.output_item.added", output_index=0, item=self._message(view, "in_progress"))
        yield say("response.content_part.added", **place, part=_part(""))

    def _closed(self, view: MessageView, place: dict[str, Any], say: Callable[..., str]) -> Iterator[str]:
        yield say("response.output_text.done", **place, text=view.text, logprobs=[])
        yield say("response.content_part.done", **place, part=_part(view.text))
        status = _status(view)
        yield say("response.output_item.done", output_index=0, item=self._message(view, status))
        yield say(f"response.{status}", response=self.body(view, status))


def _status(reply: MessageView) -> str:
    """OpenAI's word for how far a reply is; one from before endings were stored counts as ended by itself."""
    if not reply.complete:
        return "in_progress"
    return "completed" if reply.ending in ("ended", "") else "incomplete"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
