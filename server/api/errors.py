"""Errors of the API in the form that OpenAI's clients read, each with one sentence."""

from __future__ import annotations

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from feedback_store.errors import StoreCorrupt, StoreUnavailable, UnknownRecord
from services.accounts.permissions import NotAllowed
from services.chat.replies import ConversationBusy
from services.learning.between_rounds import RoundUnderWay
from spear_core.errors import SpearError

TYPES = {
    500: "server_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
    503: "server_error",
}
RETRY_AFTER_SECONDS = {409: 1, 429: 1}  # by status: the same request may succeed then


class Busy(SpearError):
    """Too many requests at once; the same request can be sent again a moment later."""


class ReplyLost(SpearError):
    """A reply ended without a reason of its own: nobody stopped it, and the model had not finished."""


def refuse(
    status: int, sentence: str, param: str | None = None, code: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse(error_body(status, sentence, param, code), status, headers)


def error_body(status: int, sentence: str, param: str | None = None, code: str | None = None) -> dict[str, object]:
    kind = TYPES.get(status, "invalid_request_error")
    sentence = sentence.encode("utf-8", "replace").decode()  # it may quote a lone surrogate, which no answer can carry
    return {"error": {"message": sentence, "type": kind, "param": param, "code": code}}


def status_of(error: Exception) -> int:
    """The HTTP status of a SpearError or StoreError."""
    match error:
        case NotAllowed():
            return 403
        case UnknownRecord():
            return 404
        case ConversationBusy() | RoundUnderWay():
            return 409
        case Busy():
            return 429
        case StoreUnavailable() | StoreCorrupt() | ReplyLost():
            return 503
    return 400


async def answer_error(request: Request, error: Exception) -> JSONResponse:
    """A SpearError or StoreError that left a route."""
    status = status_of(error)
    seconds = RETRY_AFTER_SECONDS.get(status)
    return refuse(status, str(error), headers={"Retry-After": str(seconds)} if seconds else None)


async def answer_refused(request: Request, error: Exception) -> JSONResponse:
    """A refusal of the framework itself, such as of a body that it cannot read."""
    assert isinstance(error, HTTPException)
    return refuse(error.status_code, f"{str(error.detail).rstrip('.')}.")


async def answer_bug(request: Request, error: Exception) -> JSONResponse:
    """Anything else: one sentence for the client; the server logs the error."""
    return refuse(500, "Something went wrong here that should not; the log of the server says what.")


async def answer_invalid(request: Request, error: Exception) -> JSONResponse:
    """A body or parameter of the wrong form: the first thing that is wrong with it."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"][1:])
    said = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return refuse(400, f"The body is not valid JSON: {first.get('ctx', {}).get('error', said)}.")
    if not path:
        return refuse(400, f"The body must be a JSON object, sent as application/json: {said}.")
    return refuse(400, f"{path}: {said}.", param=path)
