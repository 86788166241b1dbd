"""The guard: logging in and out, other websites, other names of this machine, bodies without end."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from feedback_store import UnknownRecord
from server.current_user import Access
from services.accounts.users_file import add_user, make_key, remove_keys, remove_user
from tests.faults.quick import open_quick
from tests.server.running import PASSWORD, Running, ask, running
from tests.server.test_roles import Visitor

HTML = {"Accept": "text/html"}


def log_in(server: Running, name: str, password: str) -> httpx.Response:
    return httpx.post(f"{server.url}/login", data={"name": name, "password": password})


@pytest.fixture(scope="module")
def without_logins(server: Running) -> Iterator[Running]:
    """The same workbench served without accounts, as on a machine of one's own."""
    with running(server.app_services) as started:
        yield started


def test_a_stranger_is_shown_the_login_page_and_a_user_the_chat(server: Running) -> None:
    stranger = httpx.Client(base_url=server.url, follow_redirects=True)
    page = stranger.get("/", headers=HTML)
    assert page.url.path == "/login" and 'type="password"' in page.text and "gradio" not in page.text
    page = stranger.post("/login", data={"name": "ben", "password": PASSWORD})
    assert page.url.path == "/" and "gradio" in page.text
    assert stranger.get("/login").url.path == "/"
    stranger.post("/logout")
    assert stranger.get("/", headers=HTML).url.path == "/login"


def test_the_cookie_is_kept_from_scripts_and_other_sites(server: Running) -> None:
    cookie = log_in(server, "ben", PASSWORD).headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie


@pytest.mark.parametrize(
    ("name", "password"),
    [("ben", "wrong password"), ("nobody", PASSWORD), ("", ""), ("ben\x00", PASSWORD), ("?", ""), ("ben", "x" * 5000)],
)
def test_a_wrong_password_or_name_is_refused_in_the_same_words(server: Running, name: str, password: str) -> None:
    answer = log_in(server, name, password)
    assert answer.status_code == 401 and "do not belong together" in answer.text and "set-cookie" not in answer.headers


def test_who_guesses_passwords_has_to_wait(server: Running) -> None:
    add_user(server.file, "dora", "guest", PASSWORD)
    statuses = [log_in(server, "dora", f"guess number {i}").status_code for i in range(6)]
    assert statuses == [401] * 5 + [429]
    assert log_in(server, "dora", PASSWORD).status_code == 429
    assert log_in(server, "ben", PASSWORD).status_code == 303, "others need not"
    remove_user(server.file, "dora")


def test_logging_out_ends_the_session_for_whoever_copied_the_cookie(server: Running) -> None:
    mine, other_browser = server.logged_in("ben"), server.logged_in("ben")
    copied = httpx.Client(base_url=server.url, cookies=dict(mine.cookies))
    assert copied.get("/v1/models").status_code == 200
    assert "Log out" in mine.get("/logout").text and copied.get("/v1/models").status_code == 200, "GET only asks"
    from_elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert mine.post("/logout", headers=from_elsewhere).status_code == 403
    assert copied.get("/v1/models").status_code == 200
    assert mine.post("/logout").status_code == 303
    assert copied.get("/v1/models").status_code == 401
    assert copied.post("/gradio_api/queue/join", json={}).status_code == 401
    assert other_browser.get("/v1/models").status_code == 200, "each browser has its own"


def test_logging_in_again_ends_the_browsers_earlier_session(server: Running) -> None:
    mine = server.logged_in("ben")
    copied = httpx.Client(base_url=server.url, cookies=dict(mine.cookies))
    mine.post("/login", data={"name": "ben", "password": PASSWORD})
    assert mine.get("/v1/models").status_code == 200 and copied.get("/v1/models").status_code == 401


def test_a_new_user_of_an_old_name_gets_nothing_of_the_old_one(server: Running) -> None:
    add_user(server.file, "gina", "guest", PASSWORD)
    session = server.logged_in("gina")
    key = {"Authorization": f"Bearer {make_key(server.file, 'gina')}"}
    said = ask(httpx.Client(base_url=server.url, headers=key, timeout=60), "What is an owl?", learn=False)
    remove_user(server.file, "gina")
    assert session.get("/v1/models").status_code == 401
    add_user(server.file, "gina", "guest", PASSWORD)
    assert session.get("/v1/models").status_code == 401
    assert httpx.get(f"{server.url}/v1/models", headers=key).status_code == 401
    found = server.access.accounts.user("gina")  # type: ignore[union-attr]
    assert found is not None and found.id.startswith("gina:")
    assert server.access.session(found).chat.conversations() == []
    with pytest.raises(UnknownRecord):
        server.access.session(found).chat.messages(said["conversation_id"])
    page = Visitor(server, "gina")
    show = next(event for event in page.events if event["api_name"] == "restore")
    assert "process_completed" in page.fire(show, {}, None), "the page works with such an id too"
    remove_user(server.file, "gina")


@pytest.mark.parametrize("cookie", ["", "x", "a.b.c", "WyJhbm5hIiwgIiJd.x.y", "null"])
def test_a_forged_session_is_none(server: Running, cookie: str) -> None:
    assert httpx.get(f"{server.url}/v1/models", cookies={server.access.cookie: cookie}).status_code == 401


def test_two_instances_on_one_host_do_not_log_each_other_out(server: Running, tmp_path: Path) -> None:
    other = open_quick(tmp_path / "data")
    try:
        access = Access(other, server.access.accounts)
        assert access.cookie != server.access.cookie
        assert access.cookie == Access(other, server.access.accounts).cookie, "a restart keeps the sessions"
        session = server.logged_in("anna")
        assert set(session.cookies.keys()) == {server.access.cookie, server.access.browser_cookie}
    finally:
        other.close()


def test_a_session_ends_with_the_password_and_a_key_when_it_is_revoked(server: Running) -> None:
    add_user(server.file, "emil", "guest", PASSWORD)
    key = {"Authorization": f"Bearer {make_key(server.file, 'emil')}"}
    session = server.logged_in("emil")
    assert session.get("/v1/models").status_code == httpx.get(f"{server.url}/v1/models", headers=key).status_code == 200
    add_user(server.file, "emil", "guest", "another password")
    assert session.get("/v1/models").status_code == 401
    assert httpx.get(f"{server.url}/v1/models", headers=key).status_code == 200, "keys outlive a new password"
    remove_keys(server.file, "emil")
    assert httpx.get(f"{server.url}/v1/models", headers=key).status_code == 401
    remove_user(server.file, "emil")


def test_a_role_that_was_taken_away_is_gone_at_once(server: Running) -> None:
    add_user(server.file, "fred", "owner", PASSWORD)
    session = server.logged_in("fred")
    key = {"Authorization": f"Bearer {make_key(server.file, 'fred')}"}
    assert session.get("/metrics").status_code == 200
    add_user(server.file, "fred", "guest", PASSWORD)
    assert httpx.get(f"{server.url}/metrics", headers=key).status_code == 403
    remove_user(server.file, "fred")
    assert httpx.get(f"{server.url}/metrics", headers=key).status_code == 401


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example"}]
)
def test_another_website_cannot_act_in_a_visitors_name(
    server: Running, without_logins: Running, headers: dict[str, str]
) -> None:
    for client in (server.logged_in("anna"), httpx.Client(base_url=without_logins.url)):
        assert client.post("/v1/learning", json={"paused": True}, headers=headers).status_code == 403
        assert client.post("/gradio_api/queue/join", json={}, headers=headers).status_code == 403
        remembered = {**headers, "Authorization": "Basic eDp5"}  # which a browser adds by itself
        assert client.post("/v1/learning", json={"paused": True}, headers=remembered).status_code == 403
    assert not server.app_services.learning.paused


def test_the_page_itself_may(server: Running) -> None:
    own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert server.logged_in("anna").post("/v1/learning", json={"paused": False}, headers=own).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "192.0.2.1", "", "127.0.0.1.evil.example", "[::1"]
)
def test_without_logins_another_name_of_this_machine_opens_nothing(without_logins: Running, host: str) -> None:
    assert httpx.get(f"{without_logins.url}/v1/models", headers={"Host": host}).status_code in (400, 403)
    assert httpx.get(f"{without_logins.url}/v1/models", headers={"Host": "localhost:1"}).status_code == 200


def test_with_insecure_any_name_does(server: Running) -> None:
    with running(server.app_services, insecure=True) as started:
        assert httpx.get(f"{started.url}/v1/models", headers={"Host": "example.org"}).status_code == 200


def test_without_logins_nobody_sees_what_users_said(server: Running, without_logins: Running) -> None:
    ask(server.as_user("ben"), "What is an owl?", learn=False)
    here = ask(without_logins.as_user(None), "What is a violin?", learn=False)
    exported = httpx.get(f"{without_logins.url}/v1/data/export?format=events").text
    assert here["conversation_id"] in exported and "owl" not in exported


def test_a_body_that_says_it_is_huge_is_refused_before_it_is_sent(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=30) as connection:
        head = f"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.keys['ben']}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {1 << 40}\r\n\r\n".encode())
        assert connection.recv(200).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("ben", "/v1/data/restore"),
        ("ben", "/v1/data/nothing"),
        ("ben", "/v1/data/import"),
        ("ben", "/gradio_api/upload"),
        ("anna", "/v1/data/restore"),
        ("anna", "/gradio_api/queue/join"),
    ],
)
def test_only_what_owners_import_and_upload_may_be_large(server: Running, name: str, path: str) -> None:
    """All others are refused by their length alone: a route may read a body before it asks who sent it."""
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=30) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.keys[name]}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {17 << 20}\r\n\r\n".encode())
        assert connection.recv(200).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("path", ["/v1/data/import?format=kto", "/gradio_api/upload"])
def test_what_owners_import_and_upload_may_be_large(server: Running, path: str) -> None:
    answer = server.as_user("anna").post(path, content=b" " * (17 << 20))
    assert answer.status_code != 413


def test_a_body_that_grows_without_end_is_cut_off(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=30) as connection:
        head = f"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.keys['ben']}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        answer = b""
        for _ in range(40):
            try:
                connection.sendall(piece)
            except OSError:
                break
        with suppress(OSError):
            answer = connection.recv(200)
    assert answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400")) or answer == b""
    assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_the_users_file_deleted_under_a_running_app_lets_nobody_in(server: Running, tmp_path: Path) -> None:
    kept = server.file.read_bytes()
    server.file.unlink()
    try:
        assert server.as_user("anna").get("/v1/models").status_code == 401
    finally:
        server.file.write_bytes(kept)
    time.sleep(0.01)
    assert server.as_user("anna").get("/v1/models").status_code == 200
