"""More people than replies can be written at once: all are answered in turn, and votes do not stand in that queue."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from services.turns import AT_ONCE
from tests.ui.running import Running, ask, say
from ui.api import asking

MANY = 45  # more than the server has threads for everything else


def wait_for_turn(server: Running, count: int) -> None:
    tick, turns = threading.Event(), server.workbench.engine.turns
    for _ in range(3000):
        if len(turns._waiting) == count:
            return
        tick.wait(0.01)
    raise AssertionError(f"{len(turns._waiting)} wait for their turn, not {count}")


def hold_all_turns(server: Running, stack: ExitStack) -> None:
    for _ in range(AT_ONCE):
        stack.enter_context(server.workbench.engine.turns.turn(threading.Event()))


def test_many_who_wait_for_a_reply_are_all_answered_and_keep_nobody_from_voting(server: Running) -> None:
    client = server.as_user("ben")
    known = ask(client, "What is an owl?", learn=False)
    with ThreadPoolExecutor(MANY) as pool:
        with ExitStack() as held:
            hold_all_turns(server, held)
            asked: list[Future[dict[str, Any]]] = [
                pool.submit(ask, server.as_user("ben"), "What is an owl?", learn=False) for _ in range(MANY)
            ]
            wait_for_turn(server, MANY)
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
    with ThreadPoolExecutor(1) as pool, ExitStack() as held:
        hold_all_turns(server, held)
        first = pool.submit(ask, server.as_user("ben"), "What is an owl?", learn=False)
        wait_for_turn(server, 1)
        body = {"model": "pocket-model", "messages": [{"role": "user", "content": "What is a rose?"}]}
        refused = server.as_user("cora").post("/v1/chat/completions", json=body)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert "try again in a moment" in refused.json()["error"]["message"]
        held.close()
        assert first.result()["message_id"]
