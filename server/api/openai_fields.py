"""What the requests of OpenAI's APIs have in common: messages, and the parameters that say how a reply is drawn.

Everything may be null, as OpenAI's clients send what was not set. What a parameter asks for is done, or refused in a
sentence that names it; what only concerns OpenAI's own service (user, metadata, service_tier, ...) is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, StrictBool, StrictInt, ValidationInfo, field_validator

from feedback_store.records import Role
from services.chat.client_histories import Said

MAX_MESSAGES = 2000
MAX_STOPS = 16
ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
TOOL_ROLES = ("tool", "function")
PART_TYPES = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}


def read_text(content: Any) -> str:
    """A string, or the texts of parts. Raises ValueError for anything else."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    texts = []
    for part in content if isinstance(content, list) else [None]:
        kind = str(part.get("type")) if isinstance(part, dict) else ""
        text = part.get(PART_TYPES[kind]) if isinstance(part, dict) and kind in PART_TYPES else None
        if not isinstance(text, str):
            raise ValueError("only text can be read here: a string, or parts of type text")
        texts.append(text)
    return "\n".join(texts)


class ChatMessage(BaseModel):
    """One message of a history. What tools said elsewhere is read as text."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[str, BeforeValidator(read_text)] = ""
    name: str | None = None

    def said(self, tool_names: dict[str, str]) -> Said:
        if self.role not in TOOL_ROLES:
            return Said(ROLES[self.role], self.content)
        call_id = (self.model_extra or {}).get("tool_call_id")
        name = self.name or tool_names.get(call_id if isinstance(call_id, str) else "", "the tool")
        return Said("user", f"Result of {name}:\n{self.content}")

    model_config = {"extra": "allow"}


def read_messages(messages: Sequence[ChatMessage]) -> list[Said]:
    """The history as the chat service reads it: a tool's result belongs to the question that it was called for."""
    names: dict[str, str] = {}
    said = []
    for message in messages:
        calls = (message.model_extra or {}).get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and isinstance(call.get("id"), str):
                names[call["id"]] = str(function.get("name", ""))[:80]
        said.append(message.said(names))
    return said


class StreamOptions(BaseModel):
    include_usage: StrictBool | None = None


def _stops(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _only_text(value: Any) -> Any:
    """response_format of chat completions, text.format of responses."""
    kind = value.get("type") if isinstance(value, dict) else value
    if value is not None and kind != "text":
        raise ValueError(f"replies are plain text here; {str(kind)[:80]!r} cannot be promised")
    return value


StopTexts = Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(max_length=MAX_STOPS)]


class Drawing(BaseModel):
    """How a reply is drawn. What is not said is the conversation's, as set on the page."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    seed: StrictInt | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[StopTexts | None, BeforeValidator(_stops)] = None
    n: StrictInt | None = None
    logprobs: Any = None
    top_logprobs: Any = None
    logit_bias: Any = None
    top_k: Any = None
    min_p: Any = None
    audio: Any = None
    web_search_options: Any = None
    reasoning_effort: Any = None
    modalities: list[Any] | None = None

    @field_validator("modalities")
    @classmethod
    def text_alone(cls, value: list[Any] | None) -> list[Any] | None:
        if value not in (None, [], ["text"]):
            raise ValueError("replies are plain text here")
        return value

    @field_validator("n")
    @classmethod
    def only_one(cls, value: int | None) -> int | None:
        if value not in (None, 1):
            raise ValueError("one reply is written at a time; ask again for another one")
        return value

    @field_validator(
        "logprobs", "top_logprobs", "logit_bias", "top_k", "min_p", "audio", "web_search_options", "reasoning_effort"
    )
    @classmethod
    def cannot_be_honoured(cls, value: Any) -> Any:
        if value and value != "none":
            raise ValueError("this cannot be honoured here; leave it out")
        return value

    def drawn(self, max_tokens: int | None) -> dict[str, Any]:
        """The fields of Sampling that were asked for."""
        asked = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
            "seed": self.seed,
            "stop": tuple(self.stop) if self.stop else None,
            "max_new_tokens": max_tokens,
        }
        if self.top_p == 0:  # the likeliest token alone
            asked |= {"temperature": 0.0, "top_p": None}
        return {name: value for name, value in asked.items() if value is not None}


TextOnly = Annotated[Any, BeforeValidator(_only_text)]
MaxTokens = Annotated[StrictInt | None, Field(default=None, ge=1, le=100_000)]


class Tools(BaseModel):
    """Tools that may not be called, which is all that can be promised: this model calls none."""

    tools: list[Any] | None = None
    functions: list[Any] | None = None
    tool_choice: Any = None
    function_call: Any = None

    @field_validator("tool_choice", "function_call")
    @classmethod
    def not_forced(cls, value: Any, info: ValidationInfo) -> Any:
        offered = info.data.get("tools") or info.data.get("functions")
        if value == "none" or (value in (None, "auto") and not offered):
            return value
        raise ValueError('this model calls no tools; leave them out, or send "none" to be answered in text')

    def refusal(self) -> str | None:
        """Why a request cannot be answered that offers tools and says nothing about calling them."""
        if (self.tools and self.tool_choice is None) or (self.functions and self.function_call is None):
            return 'This model calls no tools; leave them out, or send tool_choice "none" to be answered in text.'
        return None
