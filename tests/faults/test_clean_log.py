"""The app as a process: what strangers send and how connections break leaves no traceback in its log, and a stop no file.

One app has users and is stopped by SIGTERM, as a service is; the other has none and is stopped by Ctrl-C.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.accounts.users_file import add_user, make_key
from services.data.private_files import TEMPORARY
from tests.forked import Forked
from tests.server.page_client import Client
from tests.server.running import PASSWORD

ROOT = Path(__file__).resolve().parents[2]
WORD = "zanzibarlighthouse"
TRACES = ("Traceback", "Exception in", "Exception ignored", "never retrieved", "never awaited", " ERROR ")
TRACE_LINES = 60  # a traceback through the web server is that long
JUNK: tuple[Any, ...] = (None, -1, "<img src=x onerror=alert(1)>", [[]], {"a": 1})
SLOW_EVENTS = ("start", "sync", "switch", "load", "download")  # they would begin work, which other tests do
BODIES = (
    b"", b"null", b"[]", b"{", b"[" * 50_000, b'{"a": NaN}', b'"\\ud800"', b"\xff\xfe", b"{}" * 100, b"\x00" * 100,
    b'{"session_hash": 1, "fn_index": 1}', b'{"session_hash": "x", "fn_index": 1e400, "data": []}',
    b'{"session_hash": "x", "fn_index": 1, "data": {}}', b'{"session_hash": "x", "fn_index": 1, "data": [], "event_id": []}',
)  # fmt: skip
POSTS = (
    "/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/upload",
    "/gradio_api/call/x", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/feedback", "/v1/learning",
    "/v1/data/import?format=kto", "/login", "/federation/update", "/federation/knock", "/none",
)  # fmt: skip
GETS = (
    "/gradio_api/queue/data", "/gradio_api/queue/data?session_hash=none", "/gradio_api/queue/data?session_hash=a/b",
    "/gradio_api/queue/data?session_hash=" + "x" * 200, "/gradio_api/queue/data?session_hash=a&session_hash=b",
    "/gradio_api/queue/status", "/gradio_api/queue/data/none", "/gradio_api/heartbeat/", "/gradio_api/heartbeat/a/b",
    "/gradio_api/upload_progress?upload_id=none", "/gradio_api/upload_progress", "/gradio_api/file=/etc/hostname",
    "/gradio_api/call/x/none", "/gradio_api/stream/x/y/playlist.m3u8", "/monitoring", "/%00", "/%ff", "/v1/adapters/x/zip",
    "/v1/responses/none", "/v1/adapters/99999999999999999999999/gguf", "/federation/update", "/pwa_icon/x",
)  # fmt: skip
RAW = (
    b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n",
    b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
)  # fmt: skip


class App:
    """The app as a process of its own, its log, and a temporary folder of the system that is its alone."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.data, self.system_temporary, self.log = folder / "data", folder / "tmp", folder / "log"
        self.system_temporary.mkdir(parents=True)
        model = str(ROOT / "assets" / "pocket-model")
        command = ["app.py", "--model", model, "--data-folder", str(self.data), "--port", "0", *flags]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(self.system_temporary)}
        environment.pop("GRADIO_TEMP_DIR", None)
        with self.log.open("w") as log:
            self.process = Forked(command, ROOT, log, environment)
        said = self.process.stdout.readline()
        assert ": http" in said, self.log.read_text()
        self.url = said.split(": ")[-1].strip()
        self.port = int(self.url.rpartition(":")[2])

    def client(self, name: str | None = None, key: str = "") -> httpx.Client:
        client = httpx.Client(base_url=self.url, timeout=60)
        if name:
            assert client.post("/login", data={"name": name, "password": PASSWORD}).status_code == 303
        if key:
            client.headers["Authorization"] = f"Bearer {key}"
        return client

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def complaints(self) -> list[str]:
        """What in the log shows an error of the program: such lines, each with what follows it."""
        lines = self.log.read_text().splitlines()
        return [
            "\n".join(lines[number : number + TRACE_LINES])
            for number, line in enumerate(lines)
            if any(trace in line for trace in TRACES)
        ]


@contextmanager
def running(folder: Path, *flags: str) -> Iterator[App]:
    app = App(folder, *flags)
    try:
        yield app
    finally:
        if app.process.poll() is None:
            app.process.kill()
        app.process.wait(10)
        app.process.stdout.close()


def request_of(client: httpx.Client, method: str, path: str, body: bytes = b"") -> bytes:
    """A request as bytes, with what lets `client` in."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {client.base_url.host}:{client.base_url.port}"]
    if client.cookies:
        lines.append("Cookie: " + "; ".join(f"{name}={value}" for name, value in client.cookies.items()))
    if "Authorization" in client.headers:
        lines.append(f"Authorization: {client.headers['Authorization']}")
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def cut(port: int, sent: bytes, *, reads: int = 0, resets: bool = True) -> None:
    """Send, read some bytes, and be gone: with a reset, or as by a pulled plug's orderly end."""
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        with suppress(OSError):
            connection.sendall(sent)
            while reads > 0 and (got := connection.recv(reads)):
                reads -= len(got)
        if resets:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def annoy_events(client: Client) -> int:
    """Values that no component sends, for every event, as its inputs and as what came with it. Returns how many events."""
    for number, event in enumerate(client.events):
        if not event["api_name"].startswith(SLOW_EVENTS):
            for junk in (JUNK[number % len(JUNK)], JUNK[(number + 2) % len(JUNK)]):
                client.fire(event, [junk] * len(event["inputs"]), junk)
    return len(client.events)


def annoy_routes(app: App, *clients: httpx.Client) -> None:
    """Unknown ids, bodies that are none, what is no HTTP."""
    for client in clients:
        for path in GETS:
            answer = client.get(path, headers={"Accept": "text/html"})
            assert answer.status_code < 500, (path, answer.text)
        for path in POSTS:
            for body in BODIES:
                answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
                assert answer.status_code < 500, (path, body[:40], answer.text)
        sent = client.post("/gradio_api/upload", files={"files": ("../../x.zip", b"no zip")})
        assert sent.status_code < 500
        session = secrets.token_hex(4)
        for event_id in ("none", "", "../x", None, 7, ["x"]):
            said = {"session_hash": session, "fn_index": 0, "event_id": event_id}
            assert client.post("/gradio_api/cancel", json=said).status_code < 500
    for words in RAW:
        cut(app.port, words, reads=1, resets=False)
        cut(app.port, words)


def break_connections(app: App, client: httpx.Client, page: Client) -> None:
    """Requests that end before they are whole, and streams whose readers leave."""
    chat = json.dumps(
        {"model": "pocket-model", "stream": True, "messages": [{"role": "user", "content": f"What is a {WORD}?"}]}
    ).encode()
    streamed = request_of(client, "POST", "/v1/chat/completions", chat)
    whole = request_of(client, "POST", "/v1/chat/completions", chat.replace(b"true", b"false"))
    for resets in (True, False):
        cut(app.port, streamed, reads=300, resets=resets)
        cut(app.port, streamed, resets=resets)
        cut(app.port, whole, resets=resets)
        cut(app.port, streamed[:-20], resets=resets)  # a body without its end
        cut(app.port, request_of(client, "GET", "/"), reads=10, resets=resets)
        cut(app.port, request_of(client, "GET", "/")[:20], resets=resets)
        for event in page.events[:5]:
            session = secrets.token_hex(4)
            said = {"data": [None] * len(event["inputs"]), "fn_index": event["id"], "session_hash": session}
            page.http.post("/gradio_api/queue/join", json=said)
            address = f"/gradio_api/queue/data?session_hash={session}"
            cut(app.port, request_of(page.http, "GET", address), reads=20, resets=resets)
        cut(app.port, request_of(page.http, "GET", "/gradio_api/heartbeat/x"), reads=50, resets=resets)
        part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n\r\n' + b"PK" * 4000
        upload = request_of(page.http, "POST", "/gradio_api/upload?upload_id=u", part)
        upload = upload.replace(b"application/json", b"multipart/form-data; boundary=x")
        cut(app.port, upload, resets=resets)
        cut(app.port, upload[:-2000], resets=resets)


def stop_while_people_look(app: App, number: signal.Signals, client: httpx.Client, page: Client) -> int:
    """A stop with a page open, a reply under way and a request half sent. Returns the exit status."""
    chat = {"model": "pocket-model", "stream": True, "messages": [{"role": "user", "content": "Tell me of an owl."}]}
    session = secrets.token_hex(4)
    event = page.events[0]
    said = {"data": [None] * len(event["inputs"]), "fn_index": event["id"], "session_hash": session}
    page.http.post("/gradio_api/queue/join", json=said)
    open_ = [socket.create_connection(("127.0.0.1", app.port)) for _ in range(4)]
    open_[0].sendall(request_of(page.http, "GET", f"/gradio_api/queue/data?session_hash={session}"))
    open_[1].sendall(request_of(client, "POST", "/v1/chat/completions", json.dumps(chat).encode()))
    open_[2].sendall(request_of(client, "POST", "/v1/chat/completions", json.dumps(chat).encode())[:-5])
    open_[3].sendall(request_of(page.http, "GET", "/gradio_api/heartbeat/x"))
    open_[1].recv(100)
    status = app.stop(number)
    for connection in open_:
        connection.close()
    return status


def assert_nothing_is_left(app: App) -> None:
    assert not (app.data / TEMPORARY).exists()
    assert list(app.system_temporary.rglob("*")) == []


@pytest.mark.slow
def test_with_users_and_stopped_by_sigterm(tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    add_user(users, "anna", "owner", PASSWORD)
    add_user(users, "cora", "guest", PASSWORD)
    keys = {name: make_key(users, name) for name in ("anna", "cora")}
    with running(tmp_path, "--auth-file", str(users)) as app:
        nobody, cora, anna = app.client(), app.client("cora"), app.client("anna")
        page = Client("guest", cora)
        assert annoy_events(page) > 50
        annoy_routes(app, nobody, cora, anna, app.client(key=keys["cora"]))
        break_connections(app, app.client(key=keys["cora"]), page)
        upload = anna.post("/gradio_api/upload", files={"files": (f"{WORD}.zip", WORD.encode() * 100)})
        assert Path(upload.json()[0]).is_relative_to((app.data / TEMPORARY).resolve())
        assert app.complaints() == []
        assert app.client().get("/healthz").status_code == 200
        assert stop_while_people_look(app, signal.SIGTERM, app.client(key=keys["cora"]), page) == 0
        assert app.complaints() == []
        assert_nothing_is_left(app)


@pytest.mark.slow
def test_without_users_and_stopped_by_ctrl_c(tmp_path: Path) -> None:
    with running(tmp_path) as app:
        client = app.client()
        page = Client("owner", client)
        annoy_events(page)
        annoy_routes(app, client)
        break_connections(app, client, page)
        assert app.complaints() == []
        assert stop_while_people_look(app, signal.SIGINT, client, page) == 0
        assert app.complaints() == []
        assert_nothing_is_left(app)


@pytest.mark.slow
def test_ctrl_c_while_the_model_loads(tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    data = tmp_path / "data"
    model = str(ROOT / "assets" / "pocket-model")
    command = [sys.executable, "app.py", "--model", model, "--data-folder", str(data), "--port", "0"]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "TMPDIR": str(folder)}, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (data / TEMPORARY).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (0, 130) and not any(trace in said for trace in TRACES), said
    assert not (data / TEMPORARY).exists() and list(folder.rglob("*")) == []
