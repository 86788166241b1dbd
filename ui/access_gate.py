"""The door of the whole server: who comes in, from where, and with how much. Plain ASGI, before every route.

Nothing is reached without a login unless it is listed here; a route that a library adds is behind it too.
"""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.settings import is_loopback
from ui.access import Access

log = logging.getLogger(__name__)
OPEN_PATHS = frozenset({"/login", "/logout", "/healthz", "/favicon.ico"})
SIGNED_PREFIX = "/federation/"  # peers have no accounts: each of their requests is signed, and judged there
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_BODY_BYTES = 16 << 20  # a long chat, which the page sends along with each vote
MAX_IMPORT_BYTES = 1 << 30
IMPORT_PREFIX = "/v1/data/"


class _TooLarge(Exception):
    pass


class Gate:
    """Puts the `User` into `request.state.user`, or answers itself: 401, 403 or 413 with one sentence."""

    def __init__(self, app: ASGIApp, access: Access, insecure: bool = False) -> None:
        self.app = app
        self.access = access
        self.any_host = insecure or access.accounts is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if path.startswith(SIGNED_PREFIX):
            await self.app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        user = self.access.user_of(request)
        if refusal := self._refusal(scope, request.headers):
            await refusal(scope, receive, send)
        elif user is None and path not in OPEN_PATHS:
            await self._unknown(scope, request.headers)(scope, receive, send)
        else:
            scope.setdefault("state", {})["user"] = user
            await self._within(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if not self.any_host and not is_loopback(_host(headers)):
            # a name that a stranger's page has pointed at this machine (DNS rebinding), or a proxy without logins
            return _no(
                scope, 403, "Open this by the address of this machine; other names need --auth-file or --insecure."
            )
        # a key is not sent by itself, as cookies are, and passwords that a browser remembers for a proxy
        has_key = headers.get("authorization", "").lower().startswith("bearer ")
        if scope["method"] not in SAFE_METHODS and not has_key and _from_elsewhere(headers):
            return _no(scope, 403, "Another website sent this request; it is refused.")
        try:
            length = int(headers.get("content-length", "0"))
        except ValueError:
            return _no(scope, 400, "The Content-Length is not a number.")
        return _too_large(scope) if length > _limit(scope) else None

    @staticmethod
    def _unknown(scope: Scope, headers: Headers) -> Response:
        if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            return RedirectResponse("/login", 303)
        return _no(scope, 401, "Log in first, or send an API key as `Authorization: Bearer KEY`.")

    async def _within(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and end the request where its body grows beyond the limit without having said so."""
        taken, answered = 0, False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > _limit(scope):
                raise _TooLarge
            return message

        async def sending(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self.app(scope, counted, sending)
        except _TooLarge:
            if not answered:
                await _too_large(scope)(scope, receive, send)


def _limit(scope: Scope) -> int:
    return MAX_IMPORT_BYTES if scope["path"].startswith(IMPORT_PREFIX) else MAX_BODY_BYTES


def _too_large(scope: Scope) -> Response:
    return _no(scope, 413, f"The request is too large; {_limit(scope) >> 20} MB are allowed.")


def _host(headers: Headers) -> str:
    """The name by which this server was asked, without the port; empty where there is no such name."""
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def _from_elsewhere(headers: Headers) -> bool:
    """Whether a browser says that another site's page sent this. Programs that are no browsers say nothing."""
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _no(scope: Scope, status: int, sentence: str) -> Response:
    kind = {401: "authentication_error", 403: "permission_error"}.get(status, "invalid_request_error")
    content = {"error": {"message": sentence, "type": kind, "param": None, "code": None}, "detail": sentence}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(content, status, headers)
