"""How a reply that is asked for over the API ends, and what other requests meet while it is being written."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from services.chat.chat import ChatService
from tests.blocked_decoder import HeldReplies
from tests.server.running import Running

QUESTION = "What is an owl?"
CHAT = "/v1/chat/completions", {"messages": [{"role": "user", "content": QUESTION}]}
RESPONSES = "/v1/responses", {"input": QUESTION}


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
