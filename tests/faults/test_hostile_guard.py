"""The gate, the login and the page's addresses under hostile headers, names of the host, keys, cookies, forms and paths."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import guard as access_gate
from server import slow_clients
from tests.faults.hostile_requests import OWN, AttackedApp, Direct, share_of_cases
from tests.faults.hostile_words import PATHS, SHORT, in_path
from tests.server.running import running

GUARD, HOST, LOGIN, FILES, SLOW = "guard: keys, cookies, origins", "guard: Host", "login", "page: files", "slow clients"
SAFE = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20)  # what a header can carry
HEADER = st.sampled_from(
    ["null", "http://evil.example", "http://127.0.0.1:7860.evil.example", "http://127.0.0.1:7860@evil"]
)
SITES = st.sampled_from(["cross-site", "same-site", "CROSS-SITE", "x"])
TARGETS = st.sampled_from(
    ["/v1/models", "/v1/learned", "/v1/learning", "/config", "/gradio_api/queue/data?session_hash=x", "/metrics", "/",
     "/gradio_api/file=x", "/federation/update", "/federation/../v1/learned", "/federation/%2e%2e/config", "/v1/data/export",
     "//v1/learned", "/./v1/learned", "/V1/learned", "/v1/learned/", "/login/../v1/learned", "/healthz/../config"]
)  # fmt: skip
OPEN = ("/login", "/healthz", "/favicon.ico", "/logout")
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", "X"])
CREDENTIALS = st.fixed_dictionaries(
    {},
    optional={
        "authorization": st.builds(
            lambda kind, key: f"{kind} {key}", st.sampled_from(["Bearer", "bearer", "Basic", ""]), SAFE
        ),
        "cookie": SAFE.map(lambda value: f"spear-session={value}")
        | st.sampled_from(
            ["spear-session=WyJhbm5hIiwgIiJd.a.b", "spear-session=; spear-session=x", "=", ";;;", "a" * 4000]
        ),
        "origin": HEADER | SAFE,
        "sec-fetch-site": SITES | st.just("none"),
        "x-forwarded-for": SAFE,
        "x-forwarded-user": st.just("anna"),
        "accept": st.sampled_from(["text/html", "*/*", ""]),
        "content-length": st.sampled_from(["0", "-1", "1e9", "99999999999999999999", "\u00b2", " 5", "abc"]),
    },
)


@share_of_cases(0.14)
@given(method=METHODS, address=TARGETS | PATHS.map(lambda p: f"/{in_path(p)}"), headers=CREDENTIALS)
def test_without_a_key_or_a_session_nothing_opens(
    world: AttackedApp, method: str, address: str, headers: dict[str, str]
) -> None:
    headers = {name: text.replace("spear-session", world.server.access.cookie) for name, text in headers.items()}
    with world.watch.case(GUARD) as counted:
        status, got, content = world.direct(method, address, headers)
        world.watch.shown(GUARD, content, status)
        is_open = address.startswith(OPEN) or (address.startswith("/federation/") and status in (401, 404, 405))
        if status < 300 and not is_open:
            counted.leaks += 1
            raise AssertionError(f"{method} {address} {headers} was let in: {status} {content[:200]!r}")
        assert not any(name.startswith("access-control-allow-origin") for name in got)


@share_of_cases(0.05)
@given(
    path=st.sampled_from(
        ["/v1/learning", "/v1/feedback", "/gradio_api/queue/join", "/gradio_api/run/x", "/gradio_api/upload"]
    ),
    said=st.one_of(SITES.map(lambda s: {"sec-fetch-site": s}), (HEADER | SAFE).map(lambda o: {"origin": o})),
    host=st.sampled_from(["127.0.0.1:7860", "chat.example.org", "localhost"]),
)
def test_another_website_gets_nothing_done_with_a_visitors_cookie(
    world: AttackedApp, path: str, said: dict[str, str], host: str
) -> None:
    cookie = {"cookie": f"{world.server.access.cookie}={world.session_of('anna')}", "host": host}
    with world.watch.case(GUARD):
        status, got, content = world.direct("POST", path, {**cookie, **said, "content-type": "application/json"}, b"{}")
        world.watch.shown(GUARD, content, status)
        assert status == 403 and b"Another website" in content
        status, got, _ = world.direct("GET", "/gradio_api/app_id", {**cookie, **said})
        assert not any(name.startswith("access-control-allow") for name in got), "no other website may read an answer"
        asked = {**cookie, **said, "access-control-request-method": "POST"}
        _, got, _ = world.direct("OPTIONS", path, asked)
        assert not any(name.startswith("access-control-allow") for name in got)


@pytest.fixture(scope="module")
def alone(world: AttackedApp) -> Iterator[Direct]:
    """The same app without logins: then only the name of this machine opens it."""
    with running(world.server.app_services) as server:
        direct = Direct(server.app)
        yield direct
        direct.close()


NAMES = st.sampled_from(
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:7860", "localhost:7860.evil.example",
     "0.0.0.0", "[::]", "[::1", "::1.evil", "127.0.0.1\\.evil.example", "127.0.0.1/evil", "local host", "LOCALHOST.EVIL", "",
     "192.168.0.1", "169.254.169.254", "2130706433.evil", "xn--localhost-x", "127.0.0.1,evil.example", "evil.example#127.0.0.1",
     "evil.example?127.0.0.1", "evil.example/127.0.0.1"]
) | SAFE.map(lambda s: f"evil{s}.example")  # fmt: skip


@share_of_cases(0.10)
@given(name=NAMES, path=TARGETS)
def test_without_logins_no_other_name_of_the_host_opens_anything(
    world: AttackedApp, alone: Direct, name: str, path: str
) -> None:
    with world.watch.case(HOST) as counted:
        status, _, content = alone("GET", path, {"host": name})
        world.watch.shown(HOST, content, status)
        if status < 400 and not path.startswith("/federation/"):
            counted.leaks += 1
            raise AssertionError(f"{name!r} opened {path}")


@share_of_cases(0.001)
@given(name=SHORT | st.sampled_from(["anna", "ben"]), password=SHORT, more=st.binary(max_size=20))
def test_a_hostile_login_form_is_answered_with_a_page(
    world: AttackedApp, name: str, password: str, more: bytes
) -> None:
    form = urlencode({"name": name, "password": password}, errors="surrogatepass").encode() + more
    with world.watch.case(LOGIN):
        status, got, content = world.direct(
            "POST",
            "/login",
            {"content-type": "application/x-www-form-urlencoded", "content-length": str(len(form))},
            form,
        )
        world.watch.shown(LOGIN, content, status)
        assert status in (401, 429) and "set-cookie" not in got and b"<script" not in content.lower()


def secret_files(world: AttackedApp) -> list[str]:
    found = [world.server.file, world.folder / "spear.sqlite3", world.folder / "federation" / "key.pem"]
    assert all(path.is_file() for path in found)
    return [str(path) for path in found]


WRAPS = st.sampled_from(
    ["{}", "/{}", "./{}", "{}/", "{}%00", "{}%00.svg", "//{}", "%2e%2e/{}", "{}?x", "{}#", "file://{}", "\\{}"]
)
ROUTES = st.sampled_from(
    ["/gradio_api/file=", "/gradio_api/file/", "/file=", "/file/", "/static/", "/assets/", "/svelte/", "/gradio_api/proxy=",
     "/gradio_api/custom_component/x/client/y/", "/pwa_icon/", "/config?deep_link=", "/?deep_link=", "/gradio_api/stream/",
     "/gradio_api/deep_link?session_hash=", "/v1/data/", "/theme.css", "/gradio_api/upload_progress?upload_id=../"]
)  # fmt: skip


@share_of_cases(0.10)
@given(
    route=ROUTES,
    which=st.integers(0, 2),
    up=st.integers(0, 14),
    wrap=WRAPS,
    other=PATHS,
    aim=st.integers(0, 3),
    name=st.sampled_from(["cora", "anna"]),
    twice=st.booleans(),
)
def test_no_address_reads_a_file_that_is_not_the_pages(
    world: AttackedApp, route: str, which: int, up: int, wrap: str, other: str, aim: int, name: str, twice: bool
) -> None:
    path = "../" * up + secret_files(world)[which] if aim else in_path(other)
    path = wrap.format(quote(path, safe="") if twice else path)
    with world.watch.case(FILES) as counted:
        if route.startswith("/gradio_api/upload_progress"):
            status, _, content = world.ask(FILES, None, "GET", route + path)  # with a key it waits three seconds
        else:
            status, _, content = world.ask(FILES, name, "GET", route + path, range="bytes=1-2-3")
        if b"SQLite format 3" in content or b"PRIVATE KEY" in content or b"root:" in content:
            counted.leaks += 1
            raise AssertionError(f"{route}{path} was read")


@share_of_cases(0.03)
@given(file_name=PATHS | SHORT, name=st.sampled_from(["cora", "anna"]), ranged=SHORT)
def test_an_upload_lies_where_uploads_lie_and_only_an_owner_uploads(
    world: AttackedApp, file_name: str, name: str, ranged: str
) -> None:
    named = file_name.encode("utf-8", "surrogatepass").replace(b'"', b"%22").replace(b"\r", b"").replace(b"\n", b"")
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="' + named + b'"\r\n\r\n'
    with world.watch.case(FILES):
        status, _, content = world.ask(
            FILES,
            name,
            "POST",
            "/gradio_api/upload",
            head + b"x\r\n--b--\r\n",
            content_type="multipart/form-data; boundary=b",
        )
        assert name == "anna" or status == 403
        uploads = world.folder.parent / "gradio"
        strangers = [p for p in world.folder.parent.iterdir() if p.name not in OWN]
        assert not strangers and not any(p.is_symlink() for p in uploads.rglob("*")), strangers


@pytest.mark.slow
def test_no_slow_client_keeps_a_connection_or_keeps_others_waiting(
    world: AttackedApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a head, a head without its body, a body a byte at a time: each is hung up on, and others are served."""
    monkeypatch.setattr(slow_clients, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(access_gate, "BODY_SECONDS", 1.0)
    address = ("127.0.0.1", int(world.server.url.rsplit(":", 1)[1]))
    head = f"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.server.keys['cora']}\r\n"
    starts = [
        "",
        "G",
        "GET / HTTP/1.1\r\nHost:",
        f"{head}Content-Length: 100\r\n\r\n",
        f"{head}Content-Length: 100\r\n\r\n{{",
    ]
    starts += [f"{head}Transfer-Encoding: chunked\r\n\r\n", f"{head}Transfer-Encoding: chunked\r\n\r\n5\r\nab"]
    waiting = [socket.create_connection(address, timeout=30) for _ in range(8) for _ in starts]
    stop = threading.Event()

    def dribble(connection: socket.socket) -> None:
        while not stop.wait(0.2):
            try:
                connection.sendall(b"a")
            except OSError:
                return

    for connection, start in zip(waiting, starts * 8, strict=True):
        connection.sendall(start.encode())
    dribbling = [threading.Thread(target=dribble, args=[c]) for c in waiting[4 : len(waiting) : len(starts)]]
    for thread in dribbling:
        thread.start()
    for connection in waiting:
        with world.watch.case(SLOW):
            world.ask(SLOW, "cora", "GET", "/v1/learned")
            answer = b""
            while piece := _received(connection):  # ends, or fails after the 30 seconds of the socket
                answer += piece
            world.watch.shown(SLOW, answer)
            assert not answer or answer.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400")), answer
    stop.set()
    for thread in dribbling:
        thread.join()


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096)
    except ConnectionResetError:
        return b""
