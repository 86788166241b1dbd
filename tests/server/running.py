"""The whole server in a thread, on a free port: gate, login, API and page, over the real pocket model."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from openai import OpenAI

from server.current_user import Access
from server.slow_clients import server_config
from services.accounts.users_file import Accounts, Role, add_user, make_key
from services.app import AppServices
from ui.page import build_page
from ui.serve import bind, make_app
from ui.visitor import Visitor

PASSWORD = "correct horse battery"
USERS: dict[str, Role] = {"anna": "owner", "ben": "guest", "cora": "guest"}


@dataclass(frozen=True)
class Running:
    url: str
    app_services: AppServices
    access: Access
    app: FastAPI
    keys: dict[str, str] = field(default_factory=dict)  # name -> API key

    @property
    def file(self) -> Path:
        """The file of users."""
        assert self.access.accounts is not None
        return self.access.accounts.path

    def as_user(self, name: str | None) -> httpx.Client:
        """A client with the user's key; of nobody for None."""
        headers = {"Authorization": f"Bearer {self.keys[name]}"} if name else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def openai(self, name: str) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.keys[name], max_retries=0)

    def logged_in(self, name: str) -> httpx.Client:
        """A client with a session of the page."""
        client = httpx.Client(base_url=self.url, timeout=60)
        answer = client.post("/login", data={"name": name, "password": PASSWORD})
        assert answer.status_code == 303 and answer.headers["location"] == "/"
        return client


def add_users(file: Path) -> dict[str, str]:
    """Returns each one's API key."""
    for name, role in USERS.items():
        add_user(file, name, role, PASSWORD)
    return {name: make_key(file, name) for name in USERS}


def ask(client: httpx.Client, text: str, **more: Any) -> dict[str, Any]:
    """The whole answer of /v1/chat/completions to one question."""
    messages = [{"role": "user", "content": text}]
    answer = client.post("/v1/chat/completions", json={"model": "pocket-model", "messages": messages, **more})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def say(client: httpx.Client, message_id: str, **said: str) -> dict[str, Any]:
    """The answer of /v1/feedback."""
    answer = client.post("/v1/feedback", json={"message_id": message_id, **said})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@contextmanager
def running(
    app_services: AppServices,
    accounts: Accounts | None = None,
    keys: dict[str, str] | None = None,
    *,
    insecure: bool = False,
    trusted_proxies: tuple[str, ...] = (),
) -> Iterator[Running]:
    access = Access(app_services, accounts)
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    app = make_app(build_page(Visitor(access)), access, insecure=insecure, port=port)
    server = uvicorn.Server(server_config(app, 1, trusted_proxies))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.02)
    try:
        yield Running(f"http://127.0.0.1:{port}", app_services, access, app, keys or {})
    finally:
        server.should_exit = True
        thread.join()
