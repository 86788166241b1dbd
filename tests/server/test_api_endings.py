"""How a reply that is asked for over the API ends, and what other requests meet while it is being written."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest

from feedback_store import conversations
from server.api.errors import status_of
from services.chat.chat import ChatService
from services.learning.between_rounds import RoundUnderWay
from services.views import MessageView
from tests.blocked_decoder import HeldReplies
from tests.server.running import Running, ask

QUESTION = "What is an owl?"
CHAT: tuple[str, dict[str, Any]] = "/v1/chat/completions", {"messages": [{"role": "user", "content": QUESTION}]}
RESPONSES: tuple[str, dict[str, Any]] = "/v1/responses", {"input": QUESTION}


def held_replies(server: Running) -> HeldReplies:
    engine = server.app_services.engine
    return HeldReplies(engine.batching, engine.loaded.tokenizer)


def post(server: Running, path: str, body: dict[str, Any]) -> Any:
    return server.as_user("ben").post(path, json={"model": "pocket-model", **body})


def chat_of(server: Running, name: str = "ben") -> ChatService:
    assert server.access.accounts is not None
    user = server.access.accounts.user(name)
    assert user is not None
    return server.access.session(user).chat


def being_written(server: Running) -> MessageView:
    """The reply that ben waits for."""
    chat = chat_of(server)
    (reply,) = (m for m in chat.messages(chat.conversations()[0].id) if not m.complete)
    return reply


@pytest.mark.parametrize(("asked", "end"), [(CHAT, "[DONE]"), (RESPONSES, '"type": "response.completed"')])
def test_the_end_of_a_stream_leaves_the_next_reply_alone(
    server: Running, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, dict[str, Any]], end: str
) -> None:
    """The client asks on as soon as it has the last event, before the server has closed the stream."""
    next_has_begun, stop = threading.Event(), ChatService.stop

    def stop_late(self: ChatService, *args: Any, **more: Any) -> None:
        next_has_begun.wait(60)
        stop(self, *args, **more)

    monkeypatch.setattr(ChatService, "stop", stop_late)
    path, body = asked
    body = {"model": "pocket-model", "stream": True, **body}
    with ThreadPoolExecutor(1) as pool, server.as_user("ben").stream("POST", path, json=body) as stream:
        lines = stream.iter_lines()
        assert any(end in line for line in lines)
        with held_replies(server) as held:
            first = chat_of(server).messages(chat_of(server).conversations()[0].id)[-1]
            follow_up = {"input": "What is a rose?", "previous_response_id": first.id}
            following = pool.submit(post, server, "/v1/responses", follow_up)
            held.until(1)
            next_has_begun.set()
            assert not any(lines), "the stream is closed"
        answer = following.result()
    assert answer.json()["conversation_id"] == first.conversation_id
    assert answer.json()["status"] == "completed" and answer.json()["output"][0]["content"][0]["text"]
    assert [m.ending for m in chat_of(server).messages(first.conversation_id)] == ["", "ended", "", "ended"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/feedback"])
def test_a_reply_that_was_lost_is_an_error(server: Running, path: str) -> None:
    if path == "/v1/feedback":
        body = {"message_id": ask(server.as_user("ben"), QUESTION)["message_id"], "hint": "Say it in other words."}
    else:
        body = {"model": "pocket-model", **dict([CHAT, RESPONSES])[path]}
    with ThreadPoolExecutor(1) as pool, held_replies(server) as held:
        asked = pool.submit(server.as_user("ben").post, path, json=body)
        held.until(1)
        reply = being_written(server)
        chat_of(server).stop(reply.conversation_id, reply.id, is_reader_lost=True)
        held.release()
        answer = asked.result()
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "server_error")
    assert answer.json()["error"]["message"] == "The reply was lost before it ended; ask again."


@pytest.mark.parametrize("stream", [False, True])
def test_whoever_asks_while_a_reply_is_being_written_there_is_told_to_come_back(server: Running, stream: bool) -> None:
    earlier = ask(server.as_user("ben"), QUESTION)["message_id"]
    follow_up = {"input": "What is a rose?", "previous_response_id": earlier, "stream": stream}
    with ThreadPoolExecutor(1) as pool, held_replies(server) as held:
        first = pool.submit(post, server, "/v1/responses", follow_up)
        held.until(1)
        refused = [
            post(server, "/v1/responses", follow_up),
            post(server, "/v1/responses", {**follow_up, "previous_response_id": being_written(server).id}),
            server.as_user("ben").post("/v1/feedback", json={"message_id": earlier, "hint": "a bird"}),
        ]
        held.release()
        assert first.result().status_code == 200
    assert [(a.status_code, a.headers["Retry-After"]) for a in refused] == [(409, "1")] * 3
    assert {a.json()["error"]["type"] for a in refused} == {"conflict_error"}
    assert "A reply is still being written in this conversation" in refused[0].json()["error"]["message"]


def test_what_has_to_wait_for_the_end_of_a_round_is_told_to_come_back() -> None:
    assert status_of(RoundUnderWay("A correction is being learned right now.")) == 409


def test_openais_client_asks_again_by_itself(server: Running) -> None:
    earlier = ask(server.as_user("ben"), QUESTION)["message_id"]
    follow_up: dict[str, Any] = {"input": "What is a rose?", "previous_response_id": earlier}
    patient = server.openai("ben").with_options(max_retries=5)
    with ThreadPoolExecutor(2) as pool:
        with held_replies(server) as held:
            first = pool.submit(post, server, "/v1/responses", follow_up)
            held.until(1)
            second = pool.submit(lambda: patient.responses.create(model="pocket-model", **follow_up))
            wait([second], timeout=0.5)
            assert not second.done()
        assert first.result().status_code == 200 and second.result().output_text


def test_a_response_is_in_progress_while_it_is_written_and_keeps_its_time(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "now_utc", lambda: "2026-01-02T00:00:00.500000+00:00")
    with ThreadPoolExecutor(1) as pool, held_replies(server) as held:
        asked = pool.submit(post, server, *RESPONSES)
        held.until(1)
        path = f"/v1/responses/resp_{being_written(server).id}"
        under_way = server.as_user("ben").get(path).json()
        held.release()
        answer = asked.result().json()
    assert (under_way["status"], under_way["output"], under_way["usage"]) == ("in_progress", [], None)
    assert under_way["incomplete_details"] is None
    kept = server.as_user("ben").get(path).json()
    assert kept["status"] == answer["status"] == "completed" and kept["output"] == answer["output"]
    # 56 years with 14 leap days, and a day: (56 * 365 + 14 + 1) * 86400
    assert {found["created_at"] for found in (under_way, answer, kept)} == {1_767_312_000}


@pytest.mark.parametrize("ending", ["stopped", "lost"])
def test_a_reply_that_was_stopped_or_lost_is_an_incomplete_response(server: Running, ending: str) -> None:
    with ThreadPoolExecutor(1) as pool, held_replies(server) as held:
        asked = pool.submit(post, server, *RESPONSES)
        held.until(1)
        reply = being_written(server)
        chat_of(server).stop(reply.conversation_id, reply.id, is_reader_lost=ending == "lost")
        held.release()
        answer = asked.result()
    kept = server.as_user("ben").get(f"/v1/responses/resp_{reply.id}").json()
    assert (kept["status"], kept["incomplete_details"]) == ("incomplete", None)
    if ending == "stopped":
        assert (answer.status_code, answer.json()["status"]) == (200, "incomplete")
