"""Serving the page: bind the port first, then one uvicorn server in the main thread, closed cleanly by a signal."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api import add_api
from server.current_user import Access
from server.event_streams import EventStreams
from server.guard import ServerGuard
from server.login import login_routes
from server.page_guard import PageGuard
from server.slow_clients import server_config
from spear_core.errors import SpearError
from ui.gradio_workarounds import mounted_page
from ui.page import look
from ui.visitor import show_name

# The browser itself refuses other hosts: no font, script, picture (not even one in a reply) or request leaves.
# Gradio's own page needs inline scripts and styles, and compiles the `js=` of events.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "media-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
CROSS_ORIGIN = b"access-control-allow-"
NO_STORE = (b"cache-control", b"no-store")  # for all that may hold words of somebody
WITHOUT_WORDS = ("/assets/", "/static/", "/svelte/", "/favicon.ico", "/theme.css", "/gradio_api/theme.css")
MAX_UPLOAD = "256mb"  # a zipped adapter
STOPPING = "Stopping; conversations are saved."
SHUTDOWN_SECONDS = 1  # open event streams are cut after this


def bind(host: str, port: int) -> socket.socket:
    """Take the port before anything slow happens. Raises SpearError with one sentence where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)  # a second process is refused from here on
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SpearError(f"Port {port} on {host} is in use; choose another one with --port.") from error
        raise SpearError(f"Cannot listen on {host}:{port}: {error.strerror or error}.") from error
    return listener


class SecurityHeaders:
    """Adds HEADERS to every HTTP response, and NO_STORE to all but the page's own program.

    Plain ASGI, so that streamed responses stay streamed. Takes away what lets other websites read it:
    under a name that is not localhost, Gradio allows every one of them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_program = scope.get("path", "").startswith(WITHOUT_WORDS)
        unwanted = (CROSS_ORIGIN,) if is_program else (CROSS_ORIGIN, NO_STORE[0])

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(k, v) for k, v in message.get("headers", []) if not k.lower().startswith(unwanted)]
                message["headers"] = [*own, *HEADERS, *(() if is_program else (NO_STORE,))]
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class _WithoutCutRequests(logging.Filter):
    """Leaves out that requests were cut at the end: the streams of open pages, which would be pages of traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not (_is_cancelled(error) or str(record.msg).startswith("Cancel %s running task"))


def _is_cancelled(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_cancelled, error.exceptions))
    return isinstance(error, asyncio.CancelledError)


class _Server(uvicorn.Server):
    """Calls `ready` once it accepts requests; a signal ends `run` normally instead of being raised again, and says so in
    one line.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.ready = ready

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            logging.getLogger("uvicorn.error").addFilter(_WithoutCutRequests())
            print(STOPPING, file=sys.stderr, flush=True)
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self.ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def make_app(
    page: gr.Blocks, access: Access, *, insecure: bool = False, host: str = "127.0.0.1", port: int = 0
) -> FastAPI:
    """The whole server on one port: the guard, the login, the API, and the page at the root."""
    app = FastAPI(title="SPEAR", docs_url=None, redoc_url=None, openapi_url=None)
    show_name(page, access)
    app.add_middleware(EventStreams)
    app.add_middleware(
        PageGuard,
        events=mounted_page.answered_events(page),
        uploads=mounted_page.uploads(page),
        is_queued=lambda session: mounted_page.is_queued(page, session),
    )
    app.add_middleware(ServerGuard, access=access, insecure=insecure)
    app.add_middleware(SecurityHeaders)
    app.router.routes += login_routes(access)
    app.router.routes += access.app_services.sync.routes()
    add_api(app, access)
    mounted_page.check_paths(page)
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=host,
        server_port=port,
        footer_links=[],
        run_history=False,
        max_file_size=MAX_UPLOAD,
        enable_monitoring=False,
        ssr_mode=False,
        auth_dependency=mounted_page.user_id if access.accounts else None,
        **look(),
    )


def serve(
    page: gr.Blocks,
    access: Access,
    listener: socket.socket,
    ready: Callable[[str], Any],
    *,
    insecure: bool = False,
    trusted_proxies: Sequence[str] = (),
) -> None:
    """Serve on `listener` until SIGINT or SIGTERM. `ready` gets the address when requests are accepted."""
    host, port = listener.getsockname()[:2]
    app = make_app(page, access, insecure=insecure, host=host, port=port)
    config = server_config(app, SHUTDOWN_SECONDS, trusted_proxies)
    shown_host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    _Server(config, lambda: ready(f"http://{shown_host}:{port}")).run(sockets=[listener])
