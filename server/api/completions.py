"""OpenAI's older /v1/completions: a bare text continued. Nothing is stored, so there is nothing to give feedback on."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Iterator
from functools import partial
from itertools import chain
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from pydantic import BeforeValidator, StrictBool, ValidationInfo, field_validator
from starlette.responses import StreamingResponse

from feedback_store.errors import StoreError
from server.api.answers import EVENT_STREAM, UNCACHED, Finished, event, no_model
from server.api.asking import AnsweredIn, Session, Whole, each, reply_slot
from server.api.errors import error_body, status_of
from server.api.openai_fields import Drawing, MaxTokens, StreamOptions
from services.app import AppServices
from services.chat.sampling import Sampling
from services.chat.text_completion import continue_text, count_tokens
from services.user_session import UserSession
from spear_core.errors import SpearError

router = APIRouter()
USUAL_TOKENS = 16  # OpenAI's


def _one_text(value: Any) -> Any:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise ValueError("one text is continued at a time, and no token ids")
    return value


class CompletionRequest(Drawing):
    """OpenAI's request; docs/API.md says what is honoured."""

    model: str
    prompt: Annotated[str, BeforeValidator(_one_text)]
    max_tokens: MaxTokens
    stream: StrictBool | None = False
    stream_options: StreamOptions | None = None
    echo: StrictBool | None = None
    suffix: Any = None
    best_of: Any = None

    @field_validator("suffix", "best_of")
    @classmethod
    def is_not_here(cls, value: Any, info: ValidationInfo) -> Any:
        if value and not (info.field_name == "best_of" and value == 1):
            raise ValueError("this cannot be honoured here; leave it out")
        return value


@router.post("/v1/completions")
async def complete(asked: CompletionRequest, session: Session, whole: Whole, threads: AnsweredIn) -> Any:
    return await to_thread.run_sync(partial(_complete, asked, session, whole, threads.replies), limiter=threads.replies)


def _complete(asked: CompletionRequest, session: UserSession, whole: AppServices, threads: CapacityLimiter) -> Any:
    if asked.model != session.model.name:
        return no_model(asked.model, session)
    finished = Finished()
    head = {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": session.model.name,
    }
    texts = _texts(asked, whole, finished)
    if asked.stream:
        first = next(texts, "")
        events = _events(asked, chain([first], texts), texts, head, whole, finished)
        return StreamingResponse(each(events, threads), media_type=EVENT_STREAM, headers=UNCACHED)
    said = ""
    for text in texts:
        said = text
    shown = asked.prompt + said if asked.echo else said
    return {**head, "choices": [_choice(shown, finished)], "usage": _usage(asked.prompt, said, whole)}


def _texts(asked: CompletionRequest, whole: AppServices, finished: Finished) -> Iterator[str]:
    sampling = Sampling(**asked.drawn(asked.max_tokens or USUAL_TOKENS))
    with reply_slot():
        yield from continue_text(whole.engine, asked.prompt, sampling, finished)


def _choice(text: str, finished: Finished | None) -> dict[str, Any]:
    reason = None if finished is None else "length" if finished.is_cut else "stop"
    return {"index": 0, "text": text, "finish_reason": reason, "logprobs": None}


def _usage(prompt: str, said: str, whole: AppServices) -> dict[str, int]:
    counted = count_tokens(whole.engine, prompt), count_tokens(whole.engine, said)
    return {"prompt_tokens": counted[0], "completion_tokens": counted[1], "total_tokens": sum(counted)}


def _events(
    asked: CompletionRequest,
    texts: Iterator[str],
    source: Any,
    head: dict[str, Any],
    whole: AppServices,
    finished: Finished,
) -> Generator[str]:
    sent = ""
    try:
        if asked.echo:
            yield event({**head, "choices": [_choice(asked.prompt, None)]})
        for text in texts:
            if text != sent and text.startswith(sent):
                added, sent = text[len(sent) :], text
                yield event({**head, "choices": [_choice(added, None)]})
        yield event({**head, "choices": [_choice("", finished)]})
        if asked.stream_options and asked.stream_options.include_usage:
            yield event({**head, "choices": [], "usage": _usage(asked.prompt, sent, whole)})
        yield "data: [DONE]\n\n"
    except (SpearError, StoreError) as error:
        yield event(error_body(status_of(error), str(error)))
    finally:
        source.close()
