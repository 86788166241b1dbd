"""The whole server in a thread, on a free port: gate, login, API and page, over the real pocket model."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from services.accounts import Accounts
from services.workbench import Workbench
from ui.access import Access
from ui.page import build_page
from ui.server import bind, make_app


@dataclass(frozen=True)
class Running:
    url: str
    workbench: Workbench
    access: Access


@contextmanager
def running(workbench: Workbench, accounts: Accounts | None = None, *, insecure: bool = False) -> Iterator[Running]:
    access = Access(workbench, accounts)
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    app = make_app(build_page(access.for_visitors()), access, insecure=insecure, port=port)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.02)
    try:
        yield Running(f"http://127.0.0.1:{port}", workbench, access)
    finally:
        server.should_exit = True
        thread.join()
