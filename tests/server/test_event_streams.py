"""The page's streams of events: an event that joins while its stream is being closed is not left without one."""

from __future__ import annotations

import json
import threading
import uuid
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.app import open_services
from services.chat.chat import ChatService
from services.settings import Settings
from tests.pocket_model import POCKET_MODEL
from tests.server.running import Running, running


class Page:
    """A page of anna's, as its script speaks with the server."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.session = uuid.uuid4().hex
        config = client.get("/config").json()
        self.events: dict[str, int] = {d["api_name"]: d["id"] for d in config["dependencies"] if d["api_name"]}

    def find(self) -> httpx.Response:
        """A search in the list of conversations: the quickest event."""
        body = {"session_hash": self.session, "fn_index": self.events["find"], "data": [None, "owl", None]}
        return self.client.post("/gradio_api/queue/join", json=body)

    def stream(self) -> Any:
        return self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session})


def until(lines: Any, message: str) -> dict[str, Any]:
    for line in lines:
        if line.startswith("data: ") and (said := json.loads(line[6:]))["msg"] == message:
            return dict(said)
    raise AssertionError(f"the stream ended without {message}")


def test_the_answer_to_a_join_waits_until_the_page_has_let_go_of_its_closed_stream(server: Running) -> None:
    with closing(server.logged_in("anna")) as one, closing(server.logged_in("anna")) as two:
        page = Page(one)
        assert page.find().status_code == 200
        answered = threading.Event()

        def join() -> None:
            page.client = two
            assert page.find().status_code == 200
            answered.set()

        with page.stream() as stream:
            lines = stream.iter_lines()
            assert until(lines, "process_completed")["success"]
            until(lines, "close_stream")
            joining = threading.Thread(target=join)
            joining.start()
            was_early = answered.wait(0.4)
        assert answered.wait(30) and not was_early
        joining.join()
        with page.stream() as stream:
            assert until(stream.iter_lines(), "process_completed")["success"]


def test_a_page_that_keeps_its_connection_is_answered_all_the_same(server: Running) -> None:
    with closing(server.logged_in("anna")) as one, closing(server.logged_in("anna")) as two:
        page = Page(one)
        page.find()
        with page.stream() as stream:
            until(stream.iter_lines(), "close_stream")
            page.client = two
            assert page.find().status_code == 200


@pytest.mark.slow
def test_a_stream_that_the_server_ends_tells_the_page_that_its_session_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app_services = open_services(Settings(model=str(POCKET_MODEL), data_folder=tmp_path), start_jobs=False)
    said: list[dict[str, Any]] = []
    begun, is_over = threading.Event(), threading.Event()
    usual = ChatService.conversations

    def slow(service: ChatService, *asked: Any) -> Any:
        begun.set()
        is_over.wait(60)
        return usual(service, *asked)

    def read(url: str) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            page = Page(client)
            assert page.find().status_code == 200
            with page.stream() as stream, suppress(httpx.RemoteProtocolError):  # cut after its last words
                said.extend(json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))

    monkeypatch.setattr(ChatService, "conversations", slow)
    with running(app_services) as started:
        reader = threading.Thread(target=read, args=(started.url,))
        reader.start()
        assert begun.wait(60)
    is_over.set()
    reader.join(60)
    app_services.close()
    assert said[-1]["session_not_found"] is True, said
