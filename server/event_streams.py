"""The page's streams of events: no event is left without one. Plain ASGI, inside page_guard, which names the session.

Gradio closes the stream of a session when none of its events is under way, and the page opens a new one with its next
event. Two things go wrong there, and are mended here:

- An event that joins the queue just then may be answered before the page has read that its stream is closed. The page
  takes the stream for open, opens no other, and waits for ever. So the answer is held back until the page has let go of
  the closed stream: it cuts the connection when it reads `close_stream`, and the response is kept open for that.
- A stream that ends otherwise (the server stops) leaves the page in the belief that it is open. So the page is told that
  its session is over: it waits for the server and loads itself again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SESSION = "spear.session"  # key of the scope: the name of the session that a request is about
STREAM_PATH, JOIN_PATH = "/gradio_api/queue/data", "/gradio_api/queue/join"
LET_GO_SECONDS = 1.0  # longest wait for the page; a proxy may keep from us that it has cut the connection
# Both unescaped: in the texts of a message, quotation marks are escaped
CLOSED = b'"msg":"close_stream"'
FAILED, ALIVE, GONE = b'"msg":"unexpected_error"', b'"session_not_found":false', b'"session_not_found":true'


class EventStreams:
    """Holds back answers and the ends of streams; changes nothing else."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._closing: dict[str, asyncio.Event] = {}  # by session: set when the page has let go of its closed stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = scope.get(SESSION)
        if session and scope["path"] == STREAM_PATH:
            with self._closing_of(session) as closing:
                await self.app(scope, receive, _Stream(send, closing, self._closing, session))
        elif session and scope["path"] == JOIN_PATH:
            await self.app(scope, receive, self._after_closing(session, send))
        else:
            await self.app(scope, receive, send)

    @contextmanager
    def _closing_of(self, session: str) -> Iterator[asyncio.Event]:
        let_go = asyncio.Event()
        try:
            yield let_go
        finally:
            let_go.set()
            if self._closing.get(session) is let_go:
                del self._closing[session]

    def _after_closing(self, session: str, send: Send) -> Send:
        async def send_later(message: Message) -> None:
            if message["type"] == "http.response.start" and (closing := self._closing.get(session)):
                await _wait(closing)
            await send(message)

        return send_later


class _Stream:
    """What is sent on one stream of events."""

    def __init__(self, send: Send, let_go: asyncio.Event, closing: dict[str, asyncio.Event], session: str) -> None:
        self._send, self._let_go, self._closing, self._session = send, let_go, closing, session
        self._is_closed = False

    async def __call__(self, message: Message) -> None:
        body = message.get("body", b"")
        if CLOSED in body:
            self._is_closed = True
            self._closing[self._session] = self._let_go
        elif FAILED in body and ALIVE in body:
            message = {**message, "body": body.replace(ALIVE, GONE)}
        is_end = message["type"] == "http.response.body" and not message.get("more_body")
        if is_end and self._is_closed:
            # the page cuts the connection, which ends this request; `set` comes with its end
            await _wait(self._let_go)
        await self._send(message)


async def _wait(event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), LET_GO_SECONDS)
