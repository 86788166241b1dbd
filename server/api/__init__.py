"""The HTTP API beside the page: OpenAI's chat routes, feedback, learning, data, health. docs/API.md shows each one."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from feedback_store.errors import StoreError
from server.api import chat, completions, conversations, data, feedback, health, learning, responses
from server.api.asking import Threads
from server.api.errors import answer_bug, answer_error, answer_invalid, answer_refused, refuse
from server.current_user import Access
from spear_core.errors import SpearError

rest = APIRouter()


@rest.api_route("/v1/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
async def unknown(request: Request) -> Response:
    """Whatever else begins with /v1: the page has no such routes, and its own answer would not be OpenAI's."""
    return refuse(404, f"There is no {request.method} {request.url.path}; docs/API.md lists what there is.")


def add_api(app: FastAPI, access: Access) -> None:
    """Add all routes, to be called before the page is mounted at the root."""
    app.state.access = access
    app.state.metrics = health.Metrics(access)
    app.state.threads = Threads.new()
    for error in (SpearError, StoreError):
        app.add_exception_handler(error, answer_error)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(HTTPException, answer_refused)
    app.add_exception_handler(Exception, answer_bug)
    for part in (chat, responses, completions, conversations, feedback, learning, data, health):
        for route in part.router.routes:
            if isinstance(route, APIRoute) and route.methods and "GET" in route.methods:
                route.methods.add("HEAD")  # FastAPI leaves it out; programs that watch a server ask so
        app.include_router(part.router)
    app.include_router(rest)
