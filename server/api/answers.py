"""What the answers of OpenAI's APIs have in common: ids, token counts, server-sent events, unknown models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.responses import Response

from server.api.errors import refuse
from services.app import AppServices
from services.chat.conversation_tree import prompt_up_to
from services.user_session import UserSession
from services.views import MessageView
from spear_core.inference.generation import Finish

# One message under the names that the APIs give it
CHAT_ID, RESPONSE_ID, OUTPUT_ID = "chatcmpl-", "resp_", "msg_"
EVENT_STREAM = "text/event-stream"
UNCACHED = {"Cache-Control": "no-cache"}


def message_id(name: str) -> str:
    """The id of a message, given under any of these names or under its own."""
    for prefix in (CHAT_ID, RESPONSE_ID, OUTPUT_ID):
        name = name.removeprefix(prefix)
    return name


class Finished:
    """Remembers why a reply is over."""

    def __init__(self, why: Finish = Finish.STOPPED) -> None:
        self.why = why

    @classmethod
    def of(cls, reply: MessageView) -> Finished:
        """As it is stored; a reply from before endings were stored counts as ended by itself."""
        return cls({"": Finish.ENDED, "ended": Finish.ENDED, "length": Finish.LENGTH}.get(reply.ending, Finish.STOPPED))

    def __call__(self, finish: Finish) -> None:
        self.why = finish

    @property
    def is_cut(self) -> bool:
        """Whether it became too long, which OpenAI's `length` means; a stop string is `stop` there."""
        return self.why is Finish.LENGTH

    @property
    def has_end_token(self) -> bool:
        return self.why is Finish.ENDED


@dataclass(frozen=True)
class Usage:
    """Tokens of the prompt and of the reply, its end token included where it has one."""

    prompt: int
    completion: int

    @classmethod
    def of(cls, reply: MessageView, session: UserSession, whole: AppServices, finished: Finished) -> Usage:
        stored = session.store.message(reply.id)
        prompt = prompt_up_to(session.store.messages(reply.conversation_id), stored.parent_id or "")
        encoded = whole.engine.encoder.plain(prompt, stored.text)
        return cls(len(encoded.prompt_ids), len(encoded.completion_ids) - (not finished.has_end_token))

    @property
    def as_chat(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }


def about(reply: MessageView) -> dict[str, Any]:
    """What this project adds to OpenAI's fields."""
    return {
        "message_id": reply.id,
        "conversation_id": reply.conversation_id,
        "adapter_version": reply.adapter_version,
        "corrects": reply.corrects,
    }


def created_at(reply: MessageView) -> int:
    """When the reply was begun, in seconds since 1970."""
    return int(datetime.fromisoformat(reply.created_at_utc).timestamp())


def event(content: dict[str, Any], name: str = "") -> str:
    """One server-sent event."""
    return f"{f'event: {name}' + chr(10) if name else ''}data: {json.dumps(content)}\n\n"


def no_model(name: str, session: UserSession) -> Response:
    sentence = f"The model {name[:80]!r} is not here; this server has {session.model.name!r}."
    return refuse(404, sentence, param="model", code="model_not_found")
