"""The page's events, sent without the page: wrong kinds of values, others' ids, others' sessions, files as paths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.faults.hostile_requests import MARK, AttackedApp, share_of_cases
from tests.faults.hostile_words import BOMBS, PATHS, SHORT, VALUES, to_text
from tests.server.test_roles import Visitor

EVENTS, RAW, SESSIONS = "page: events", "page: JSON bombs", "page: others' sessions"
ENDS = ("process_completed", "unexpected_error", "close_stream")
# These would have the model write; with somebody else's ids they are refused before it does
WRITES = {"send", "send_example", "revise", "again", "compare", "ask"}
ID = st.sampled_from(["BEN-0", "BEN-1", "BEN-2", "BEN-4", "CORA-1", "f" * 32])
FILE = st.builds(
    lambda path: {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "x.zip"}, PATHS | st.just("KEY")
)
SENT = ID | VALUES | SHORT | FILE
SAID = st.dictionaries(st.sampled_from(["id", "value", "text", "title", "key", "version", "pinned"]), SENT, max_size=4)


class Forger:
    """A guest's browser that sends whatever it likes, and reads what comes back."""

    def __init__(self, world: AttackedApp, name: str) -> None:
        self.visitor = Visitor(world.server, name)
        self.client = self.visitor.client
        self.events = self.visitor.events

    def post(self, path: str, body: bytes) -> httpx.Response:
        return self.client.post(f"/gradio_api/{path}", content=body, headers={"Content-Type": "application/json"})

    def join(self, event: dict[str, Any], data: list[Any], said: Any, session: str) -> httpx.Response:
        body = {"data": data, "fn_index": event["id"], "session_hash": session, "event_data": said}
        return self.post("queue/join", to_text(body).encode())

    def stream(self, session: str) -> str:
        lines = []
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                lines.append(line)
                if any(end in line for end in ENDS):
                    break
        return "\n".join(lines)


@pytest.fixture(scope="module")
def forger(world: AttackedApp) -> Iterator[Forger]:
    found = Forger(world, "cora")
    yield found
    found.client.close()


def an_error(streamed: str) -> bool:
    """Whether the page would say only "Error": a handler ended in an error that is not for people."""
    ends = [json.loads(line[6:]) for line in streamed.split("\n") if "process_completed" in line]
    return any(not end["success"] and not end["output"].get("error") for end in ends)


@share_of_cases(0.01)
@given(
    pick=st.integers(0, 200),
    data=st.lists(SENT, min_size=8, max_size=8),
    count=st.integers(-1, 1),
    said=SAID | VALUES,
    own=ID,
)
def test_an_event_ends_in_a_sentence_and_reaches_only_what_is_its_senders(
    world: AttackedApp, forger: Forger, pick: int, data: list[Any], count: int, said: Any, own: str
) -> None:
    event = forger.events[pick % len(forger.events)]
    if event["api_name"].rstrip("_123456789") in WRITES:
        data = ["BEN-0"] * len(data)
        said = {"id": "BEN-2", "text": "", "value": 1}
    inputs = data[: max(0, len(event["inputs"]) + (count if pick % 5 == 0 else 0))]
    key = str(world.folder / "federation" / "key.pem")
    sent = json.loads(world.named(to_text([inputs, said])).replace("KEY", key))
    before = world.victims_words()
    with world.watch.case(EVENTS) as counted:
        joined = forger.join(event, *sent, session="forger")
        world.watch.shown(EVENTS, joined.content, joined.status_code)
        if joined.status_code == 200:
            streamed = forger.stream("forger")
            world.watch.shown(EVENTS, streamed.encode())
            if an_error(streamed):
                counted.tracebacks += 1
                raise AssertionError(f"{event['api_name']}{sent}: {streamed[-500:]}")
        if world.victims_words() != before:
            counted.leaks += 1
            raise AssertionError(f"{event['api_name']}{sent} changed what ben said")


@share_of_cases(0.06)
@given(
    path=st.sampled_from(
        ["queue/join", "run/predict", "run/refresh_1", "cancel", "reset", "call/show", "api/show", "component_server", "stream/x",
         "call/v2/show", "process_recording", "vibe-edit", "login", "upload", "proxy=x", "deep_link?session_hash=x"]
    ),
    body=BOMBS
    | st.builds(
        lambda said, more: to_text({"session_hash": "x", "fn_index": 1, "data": [], **said, **more}).encode(),
        st.dictionaries(st.sampled_from(["session_hash", "fn_index", "data", "event_id", "trigger_id", "batched"]), VALUES, max_size=2),
        st.just({}),
    ),
)  # fmt: skip
@example(path="reset", body=b'{"\\ud800": 1}')
def test_a_body_that_no_page_sends_is_refused(world: AttackedApp, path: str, body: bytes) -> None:
    with world.watch.case(RAW):
        status, _, content = world.ask(RAW, "cora", "POST", f"/gradio_api/{path}", body)
        is_known = path in ("queue/join", "cancel", "reset", "upload") or path.startswith("run/")
        assert is_known or (status == 404 and b'"message":' in content), content[:300]


def test_a_session_is_of_one_user_whoever_knows_its_name(world: AttackedApp, forger: Forger) -> None:
    """ben's page asks for his conversation; cora, who knows the name of his session, asks for the answer."""
    ben = Forger(world, "ben")
    show = next(event for event in ben.events if event["api_name"] == "settle")
    with world.watch.case(SESSIONS):
        assert ben.join(show, [world.of_victim[0], "", None], None, "bens-session").status_code == 200
        for session in ("bens-session", "bens-session~ben", "bens-session~ben~cora"):
            world.watch.shown(SESSIONS, forger.stream(session).encode())
        for path in (
            "call/show/bens-session",
            "deep_link?session_hash=bens-session",
            "stream/bens-session/x/1/playlist.m3u8",
        ):
            answer = forger.client.get(f"/gradio_api/{path}")
            world.watch.shown(SESSIONS, answer.content, answer.status_code)
            assert answer.status_code == 404
        answer = forger.post(
            "cancel", to_text({"session_hash": "bens-session", "fn_index": 1, "event_id": "x"}).encode()
        )
        assert answer.status_code == 200, "it ends nothing of his"
        assert MARK in ben.stream("bens-session"), "and he is shown it all the same"
    ben.client.close()
