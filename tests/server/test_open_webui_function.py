"""The event function for Open WebUI: what it makes of a rating, and that a running app takes it.

integrations/open_webui/try_it.py runs it inside Open WebUI.
"""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.server.running import Running, ask

FILE = Path(__file__).resolve().parents[2] / "integrations" / "open_webui" / "rating_function.py"


@pytest.fixture(scope="module")
def function() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rating_function", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rating(
    value: Any, *, comment: str = "", shown: str = "A bird.", said: str = "A bird.", **data: Any
) -> dict[str, Any]:
    """As Open WebUI 0.12 stores it. There is another branch in the chat, and a question after the reply."""
    reply = {"role": "assistant", "parentId": "q1", "content": shown, "model": "pocket-model"}
    messages = {
        "q0": {"role": "user", "parentId": None, "content": "Hello"},
        "a0": {"role": "assistant", "parentId": "q0", "content": "Hi"},
        "q1": {"role": "user", "parentId": "a0", "content": "What is an owl?"},
        "a1": reply if shown == said else {**reply, "originalContent": said},
        "a2": {"role": "assistant", "parentId": "q1", "content": "A lamp."},
        "q2": {"role": "user", "parentId": "a1", "content": "And a crow?"},
    }
    return {
        "data": {"rating": value, "comment": comment, "model_id": "pocket-model", **data},
        "meta": {"message_id": "a1", "chat_id": "c"},
        "snapshot": {"chat": {"id": "c", "chat": {"history": {"messages": messages, "currentId": "q2"}}}},
    }


TOLD = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "What is an owl?"},
    {"role": "assistant", "content": "A bird."},
]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (rating(1), {"vote": "up"}),
        (rating("1", comment="nice"), {"vote": "up"}),
        (rating(-1), {"vote": "down"}),
        (rating(-1, comment=" a bird of the night "), {"hint": "a bird of the night"}),
        (rating(1, shown="A bird of the night."), {"edit": "A bird of the night."}),
        (rating(-1, shown="A bird of the night."), {"vote": "down"}),
    ],
)
def test_a_rating_becomes_feedback_about_the_reply_as_the_model_said_it(
    function: ModuleType, given: dict[str, Any], said: dict[str, Any]
) -> None:
    assert function.feedback_of(given) == {"messages": TOLD, **said}


def test_what_is_no_rating_of_a_reply_of_ours_is_left_alone(function: ModuleType) -> None:
    circle = rating(1)
    circle["snapshot"]["chat"]["chat"]["history"]["messages"]["q0"]["parentId"] = "a1"
    for nothing in (rating(None), rating(0), {"data": {"rating": 1}}, {}, {**rating(1), "meta": {"message_id": "x"}}):
        assert function.feedback_of(nothing) is None
    assert function.feedback_of({**rating(1), "meta": {"message_id": "q1"}}) is None, "a question"
    assert function.feedback_of(rating(1), models="other, another") is None
    assert function.feedback_of(rating(1), models="other, pocket-model") is not None
    function.feedback_of(circle)  # ends


def test_a_rating_reaches_the_app_once(server: Running, function: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    client = server.as_user("ben")
    told = [{"role": "user", "content": "What is an ocarina?"}]
    reply = ask(client, told[0]["content"], learn=False)
    text = reply["choices"][0]["message"]["content"]
    given = rating(1, shown=text, said=text)
    messages = given["snapshot"]["chat"]["chat"]["history"]["messages"]
    messages["q1"] |= {"parentId": None, "content": told[0]["content"]}
    event = function.Event()
    event.valves = event.Valves(url=server.url, key=server.keys["ben"])
    asyncio.run(event.send("r1", given))
    store = server.app_services.engine.store
    assert store.vote(reply["message_id"]) == 1
    store.set_vote(reply["message_id"], 0)
    asyncio.run(event.send("r1", given))
    assert store.vote(reply["message_id"]) == 0, "the same rating is not sent again"
    given["data"]["rating"] = -1
    asyncio.run(event.send("r1", given))
    assert store.vote(reply["message_id"]) == -1 and not caplog.records
    event.valves = event.Valves(url=server.url, key="wrong")
    asyncio.run(event.send("r2", given))
    assert "SPEAR did not take a rating (401)" in caplog.text
