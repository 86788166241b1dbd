"""The access control of the whole server: users, origins and sizes. Plain ASGI, before every route.

Nothing is reached without a login unless it is listed here. That includes routes that a library adds.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.current_user import Access
from services.accounts.users_file import User
from services.settings import is_loopback

log = logging.getLogger(__name__)
OPEN_PATHS = frozenset({"/login", "/logout", "/healthz", "/favicon.ico"})
SIGNED_PREFIX = "/federation/"  # peers have no accounts: each of their requests is signed, and judged there
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]+)?")
MAX_BODY_BYTES = 16 << 20  # a long chat, which the page sends along with each vote
# What an owner may send: a file of feedback, a zipped adapter
MAX_OWNERS_BYTES = {"/v1/data/import": 1 << 30, "/gradio_api/upload": 256 << 20}
BODY_SECONDS = 30.0  # that a body may take, and more the larger it is:
BYTES_A_SECOND = 4096  # no real connection is slower
MAX_NAME_BYTES = 255  # of a part of a path; no file has a longer name


class _TooLarge(Exception):
    pass


class _TooSlow(Exception):
    pass


class ServerGuard:
    """Puts the `User` into `request.state.user`, or answers itself: 401, 403 or 413 with one sentence."""

    def __init__(self, app: ASGIApp, access: Access, insecure: bool = False) -> None:
        self.app = app
        self.access = access
        self.any_host = insecure or access.accounts is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with suppress(ClientDisconnect):  # who left in the middle of a request gets no answer
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.startswith(SIGNED_PREFIX):
            await self.app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        user = self.access.user_of(request)
        scope.setdefault("state", {})["user"] = user
        if refusal := self._refusal(scope, request.headers):
            await refusal(scope, receive, send)
        elif user is None and path not in OPEN_PATHS:
            await self._unknown(scope, request.headers)(scope, receive, send)
        else:
            await self._within(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if not self.any_host and not is_loopback(_host(headers)):
            # a name that another website has pointed at this machine (DNS rebinding), or a proxy without logins
            return _no(
                scope, 403, "Open this by the address of this machine; other names need --auth-file or --insecure."
            )
        # a key is not sent by itself, as cookies are, and passwords that a browser remembers for a proxy
        has_key = headers.get("authorization", "").lower().startswith("bearer ")
        if scope["method"] not in SAFE_METHODS and not has_key and _from_elsewhere(headers):
            return _no(scope, 403, "Another website sent this request; it is refused.")
        if any(len(part.encode(errors="replace")) > MAX_NAME_BYTES for part in scope["path"].split("/")):
            return _no(scope, 404, "There is no such address: a part of it is too long.")
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
        """Pass on, and end the request where its body grows beyond the limit unannounced, or stops coming."""
        taken, is_whole, answered, begun = 0, False, False, time.monotonic()

        async def counted() -> Message:
            nonlocal taken, is_whole
            if is_whole:  # what comes now is the end of the connection, which may be far away
                return await receive()
            late = begun + BODY_SECONDS + taken / BYTES_A_SECOND
            try:
                message = await asyncio.wait_for(receive(), late - time.monotonic())
            except TimeoutError as e:
                raise _TooSlow from e
            taken += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
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
        except _TooSlow:
            if not answered:
                await _no(scope, 408, "The request came too slowly; send it again.")(scope, receive, send)


def _limit(scope: Scope) -> int:
    """A route may read the body before it asks who sent it, so that large ones are for owners and their routes alone."""
    user: User | None = scope["state"]["user"]
    return MAX_OWNERS_BYTES.get(scope["path"], MAX_BODY_BYTES) if user and user.is_owner else MAX_BODY_BYTES


def _too_large(scope: Scope) -> Response:
    return _no(scope, 413, f"The request is too large; {_limit(scope) >> 20} MB are allowed.")


def _host(headers: Headers) -> str:
    """The host name of the request, without the port; empty where there is none."""
    found = _HOST.fullmatch(headers.get("host", ""))
    return (found[1] or found[2]).lower() if found else ""


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
