"""More people than replies can be written at once: all are answered in turn, and votes do not stand in that queue."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from server.api import asking
from tests.blocked_decoder import HeldReplies
from tests.server.running import Running, ask, say

MANY = 45  # more than the server has threads for everything else


def held_replies(server: Running) -> HeldReplies:
    engine = server.app_services.engine
    return HeldReplies(engine.batching, engine.loaded.tokenizer)


@pytest.mark.slow
def test_many_who_wait_for_a_reply_are_all_answered_and_keep_nobody_from_voting(server: Running) -> None:
    client = server.as_user("ben")
    known = ask(client, "What is an owl?", learn=False)
    with ThreadPoolExecutor(MANY) as pool:
        with held_replies(server) as held:
            asked: list[Future[dict[str, Any]]] = [
                pool.submit(ask, server.as_user("ben"), "What is an owl?", learn=False) for _ in range(MANY)
            ]
            held.until(MANY)
            assert say(client, known["message_id"], vote="up")["message"]["vote"] == "up"
            assert say(client, known["message_id"], vote="none")["message"]["vote"] == "none"
            assert not any(answer.done() for answer in asked)
        answers = [answer.result() for answer in asked]
    assert all(answer["choices"][0]["message"]["content"] for answer in answers)
    assert len({answer["conversation_id"] for answer in answers}) == MANY


def test_beyond_the_most_that_may_wait_one_is_told_to_come_back(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_replying", threading.BoundedSemaphore(1))
    with ThreadPoolExecutor(1) as pool, held_replies(server) as held:
        first = pool.submit(ask, server.as_user("ben"), "What is an owl?", learn=False)
        held.until(1)
        body = {"model": "pocket-model", "messages": [{"role": "user", "content": "What is a rose?"}]}
        refused = server.as_user("cora").post("/v1/chat/completions", json=body)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert "try again in a moment" in refused.json()["error"]["message"]
        held.release()
        assert first.result()["message_id"]
