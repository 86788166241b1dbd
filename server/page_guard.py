"""The page's own routes, which Gradio serves: only those that the page uses, and each session for one user alone.

No file of the machine is read or served by them: a value of an event that Gradio would take for a file is refused, but
for the upload of an owner, and so is every address of a file.

Gradio takes whoever knows the name of a session for its owner: they could read its stream of answers, end its events and
change its state. So the user's id becomes part of the session's name here, before Gradio sees it, and the same name sent by
somebody else is another session. Plain ASGI, behind the guard, which says who asks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from gradio.utils import get_upload_folder
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.event_streams import SESSION
from services.accounts.users_file import User

PREFIX = "/gradio_api/"
RESET = "/gradio_api/reset"  # does nothing in Gradio either, except read the body
ICONS = "/pwa_icon/"  # pictures of the icon in any size, and it is no picture of pixels
JOIN, RUN, CANCEL = "queue/join", "run/", "cancel"  # with a JSON body that names the session
STREAM, HEARTBEAT = "queue/data", "heartbeat/"  # with the session in their address
UPLOAD = "upload"
REST = frozenset({"upload_progress", "startup-events", "theme.css", "info", "app_id", "login_check"})
OWNER_OF = "~"  # no id of a user has it
MAX_SESSION_CHARACTERS = 100
UNREADABLE = "The page sent something that cannot be read; reload the page."
NO_SESSION = (
    'data: {"msg":"unexpected_error","message":"This session has ended.","success":false,"session_not_found":true}\n\n'
)
ABSENT = "The page has no such address."
_BODY = {"session_hash": str, "fn_index": int}
_SURROGATES = re.compile("[\ud800-\udfff]")  # no answer could quote them back
_OF_FILES = frozenset({"path", "meta", "is_file"})  # keys of the objects that Gradio, now or once, takes for files


class _Refused(Exception):
    def __init__(self, status: int, sentence: str) -> None:
        self.status, self.sentence = status, sentence


class _NoSuchSession(Exception):
    pass


class PageGuard:
    """Answers by itself, with one sentence: 400, 403 or 404.

    Args:
        events: ids of the page's events that the server answers; others are the browser's own.
        uploads: the events that take an uploaded file, each with the positions of its inputs that are files.
        is_queued: whether Gradio knows a session by that name: of another it would raise in the middle of an answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        events: Collection[int],
        uploads: Mapping[int, Collection[int]],
        is_queued: Callable[[str], bool],
    ) -> None:
        self.app = app
        self.events = frozenset(events)
        self.uploads = uploads
        self.is_queued = is_queued

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith((PREFIX, ICONS)):
            await self.app(scope, receive, send)
            return
        if scope["path"] == RESET:
            await JSONResponse({"success": True})(scope, receive, send)
            return
        try:
            scope, receive = await self._own(scope, receive)
        except _Refused as refused:
            await _no(refused.status, refused.sentence)(scope, receive, send)
            return
        except _NoSuchSession:
            # as Gradio would say it, which makes the page begin a new session
            await Response(NO_SESSION, media_type="text/event-stream")(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _own(self, scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
        """The request with the session as its user's own. Raises _Refused."""
        if scope["path"].startswith(ICONS):
            raise _Refused(404, ABSENT)
        user: User = scope["state"]["user"]
        name = scope["path"].removeprefix(PREFIX)
        if name == STREAM:
            query = scope["query_string"].decode("latin-1")
            said = [(k, _owned(v, user) if k == "session_hash" else v) for k, v in parse_qsl(query, True)]
            if not self.is_queued(dict(said).get("session_hash", "")):
                raise _NoSuchSession
            named = {SESSION: dict(said)["session_hash"]}
            return {**scope, **named, "query_string": urlencode(said).encode()}, receive
        if name.startswith(HEARTBEAT):
            path = PREFIX + HEARTBEAT + _owned(name.removeprefix(HEARTBEAT), user)
            return {**scope, "path": path, "raw_path": quote(path).encode()}, receive
        if name in (JOIN, CANCEL) or name.startswith(RUN):
            return await self._own_body(scope, receive, user, is_event=name != CANCEL)
        if name == UPLOAD and not user.is_owner:
            raise _Refused(403, "Only an owner may upload adapters; ask one of them.")
        if name in REST or name == UPLOAD:
            return scope, receive
        raise _Refused(404, ABSENT)

    async def _own_body(self, scope: Scope, receive: Receive, user: User, *, is_event: bool) -> tuple[Scope, Receive]:
        if scope["method"] != "POST":
            raise _Refused(405, ABSENT)
        content, session = self._checked(await _read(receive), user, is_event)
        headers = [(k, v) for k, v in scope["headers"] if k not in (b"content-length", b"transfer-encoding")]
        headers.append((b"content-length", str(len(content)).encode()))
        is_given = False

        async def give() -> Message:
            nonlocal is_given
            if is_given:
                return await receive()  # the end of the connection
            is_given = True
            return {"type": "http.request", "body": content, "more_body": False}

        return {**scope, SESSION: session, "headers": headers}, give

    def _checked(self, content: bytes, user: User, is_event: bool) -> tuple[bytes, str]:
        """The body, if it could come from the page, and the session that it names. Raises _Refused."""
        try:
            said = json.loads(content)
        except (ValueError, RecursionError) as e:
            raise _Refused(400, UNREADABLE) from e
        if not isinstance(said, dict) or not all(isinstance(said.get(key), kind) for key, kind in _BODY.items()):
            raise _Refused(400, UNREADABLE)
        if is_event and (
            said["fn_index"] not in self.events
            or isinstance(said["fn_index"], bool)
            or not isinstance(said.get("data"), list)
        ):
            raise _Refused(400, UNREADABLE)
        if any(not self._is_own_upload(said, file, user) for file in _files(said)):
            raise _Refused(400, UNREADABLE)
        session = said["session_hash"] = _owned(said.get("session_hash"), user)
        try:
            return _SURROGATES.sub("\ufffd", json.dumps(said, ensure_ascii=False, allow_nan=False)).encode(), session
        except (ValueError, RecursionError) as e:
            raise _Refused(400, UNREADABLE) from e

    def _is_own_upload(self, said: dict[str, Any], file: dict[str, Any], user: User) -> bool:
        """Whether `file` stands where an owner's event takes an upload, and names one."""
        data = said.get("data", [])
        taken = [data[i] for i in self.uploads.get(said["fn_index"], ()) if i < len(data)]
        return user.is_owner and any(file is one for one in taken) and _was_uploaded(file.get("path"))


def _files(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value, however deep, that Gradio could take for a file."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if not _OF_FILES.isdisjoint(value):
                yield value
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)


def _was_uploaded(path: Any) -> bool:
    """Whether this is a path of a file in Gradio's folder of uploads, which is all that an upload can be."""
    try:
        found = Path(path).resolve(strict=True)
    except (TypeError, ValueError, OSError, RuntimeError):
        return False
    return found.is_file() and found.is_relative_to(Path(get_upload_folder()).resolve())


def _owned(session: Any, user: User) -> str:
    """Raises _Refused for what is no name of a session."""
    if not isinstance(session, str) or not 0 < len(session) <= MAX_SESSION_CHARACTERS or "/" in session:
        raise _Refused(400, UNREADABLE)
    return f"{session}{OWNER_OF}{user.id}"


async def _read(receive: Receive) -> bytes:
    """The whole body; the guard has limited its size. Raises _Refused where the sender left before its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Refused(400, UNREADABLE)
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _no(status: int, sentence: str) -> JSONResponse:
    kind = {403: "permission_error", 404: "not_found_error"}.get(status, "invalid_request_error")
    error = {"message": sentence, "type": kind, "param": None, "code": None}
    return JSONResponse({"error": error, "detail": sentence}, status)
