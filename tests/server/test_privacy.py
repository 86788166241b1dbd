"""What leaves over HTTP besides the answer: caches, addresses of peers, traces of code in the log."""

from __future__ import annotations

import logging
import socket

import httpx
import pytest

from federation.identity import Identity
from services.peers.views import MergeView, without_addresses
from tests.server.running import Running, ask
from tests.server.test_roles import Visitor

ADDRESS = "http://peer.example.net:7860"


@pytest.mark.parametrize(
    "path",
    ["/", "/config", "/v1/models", "/v1/learned", "/v1/data/export", "/login", "/logout", "/metrics", "/federation/card",
     "/gradio_api/queue/data?session_hash=x", "/gradio_api/info", "/v1/adapters/1/zip", "/none"],
)  # fmt: skip
def test_no_browser_and_no_proxy_keeps_what_may_hold_words(server: Running, path: str) -> None:
    for name in ("anna", None):
        answer = server.as_user(name).get(path, headers={"Accept": "text/html"})
        assert answer.headers.get_list("cache-control") == ["no-store"], (path, answer.status_code)


def test_the_pages_own_program_may_be_kept(server: Running) -> None:
    page = server.as_user("ben")
    asset = page.get("/").text.partition('src="./assets/')[2].partition('"')[0]
    answer = page.get(f"/assets/{asset}")
    assert answer.status_code == 200 and "no-store" not in answer.headers.get("cache-control", "")


def test_a_streamed_reply_is_kept_by_no_cache_either(server: Running) -> None:
    client = server.as_user("ben")
    ask(client, "What is an owl?", learn=False, max_tokens=2)
    said = {
        "model": "pocket-model",
        "messages": [{"role": "user", "content": "What?"}],
        "stream": True,
        "max_tokens": 2,
    }
    with client.stream("POST", "/v1/chat/completions", json=said) as answer:
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("session", ["unknown", "", None])
def test_an_unknown_session_ends_in_a_sentence_and_the_log_stays_clean(
    server: Running, caplog: pytest.LogCaptureFixture, session: str | None
) -> None:
    for logger in ("uvicorn.error", "uvicorn"):
        logging.getLogger(logger).addHandler(caplog.handler)
    params = {} if session is None else {"session_hash": session}
    answer = server.logged_in("cora").get("/gradio_api/queue/data", params=params)
    if session:
        assert answer.status_code == 200 and '"session_not_found":true' in answer.text
    else:
        assert answer.status_code in (200, 400)
    for path in ("queue/status", "heartbeat/none", "queue/data/none"):
        server.logged_in("cora").get(f"/gradio_api/{path}", timeout=2) if path != "heartbeat/none" else None
    body = {"session_hash": "unknown", "fn_index": 1, "event_id": "none"}
    assert server.logged_in("cora").post("/gradio_api/cancel", json=body).status_code == 200
    assert "Traceback" not in caplog.text and "Exception in ASGI" not in caplog.text


def test_a_request_that_is_cut_in_its_body_leaves_the_log_clean(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    for logger in ("uvicorn.error", "uvicorn"):
        logging.getLogger(logger).addHandler(caplog.handler)
    address = httpx.URL(server.url)
    kinds = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json")
    for path in ("/login", "/v1/feedback", "/v1/data/import?format=kto", "/gradio_api/upload", "/federation/knock"):
        for kind in kinds:
            head = f"POST {path} HTTP/1.1\r\nHost: {address.host}\r\nAuthorization: Bearer {server.keys['anna']}\r\n"
            sent = f"{head}Content-Type: {kind}\r\nContent-Length: 100\r\n\r\n--x\r\n"
            with socket.create_connection((address.host, address.port)) as connection:
                connection.sendall(sent.encode())
                assert server.as_user(None).get("/healthz").status_code == 200  # by now it is being read
    assert server.as_user(None).get("/healthz").status_code == 200
    assert "Traceback" not in caplog.text and "Exception in ASGI" not in caplog.text


def test_a_guest_sees_that_there_are_peers_and_not_where(server: Running) -> None:
    sync = server.app_services.sync
    key = Identity.new().public.text
    sync.add(f"{ADDRESS}#{key}")
    try:
        for name, sees in (("anna", True), ("cora", False)):
            visitor = Visitor(server, name)
            shown = "".join(
                visitor.fire(e, {}) for e in visitor.events if e["api_name"].startswith(("open", "refresh"))
            )
            assert ("peer.example.net" in shown) is sees, name
            assert "This instance" in shown
    finally:
        sync.remove(key)


def test_addresses_in_names_and_words_are_hidden_too(server: Running) -> None:
    sync = server.app_services.sync
    key = Identity.new().public
    sync.add(f"{ADDRESS}#{key.text}")
    server.app_services.engine.store.note_contact(key.text, f"{ADDRESS} cannot be reached.", failed=True)
    try:
        circle = sync.view()
        assert ADDRESS in repr(circle)
        merge = MergeView("2026-11-28T00:00:00+00:00", f"Merged {ADDRESS}/x.", 1, [ADDRESS, "Bern"])
        seen = without_addresses(type(circle)(**{**vars(circle), "merges": (merge,)}))
        assert "peer.example.net" not in repr(seen)
        assert seen.peers[0].name == key.fingerprint and seen.peers[0].words == "The last contact failed."
        assert seen.merges[0].peers == ["a peer", "Bern"] and seen.merges[0].words == "Merged the peer."
    finally:
        sync.remove(key.text)
