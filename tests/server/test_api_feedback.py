"""Votes, hints, edits and verdicts over HTTP, and what became of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.conftest import new_server
from tests.server.running import Running, ask, say

QUESTION = "What is the capital of Norway?"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One of its own: what other tests teach about capitals would meet what these teach."""
    with new_server(tmp_path_factory.mktemp("feedback")) as started:
        yield started


def wait_until(server: Running, name: str, *phases: str) -> dict[str, Any]:
    client, deadline = server.as_user(name), time.monotonic() + 240
    while time.monotonic() < deadline:
        status = client.get("/v1/learning").json()
        if status["phase"] in phases and not status["pending_wins"]:
            return dict(status)
        time.sleep(0.1)
    raise AssertionError(status)


@pytest.mark.slow
def test_a_correction_over_http_is_learned_and_answered_right_and_can_be_undone(server: Running) -> None:
    client = server.as_user("anna")
    wrong = ask(client, QUESTION)
    revision = say(client, wrong["id"], hint="no, Oslo")["revision"]
    assert revision["revises"] == wrong["message_id"] and "Oslo" in revision["text"]
    said = say(client, revision["message_id"], verdict="better")
    assert said["message"]["verdict"] == "better" and said["learning"]["phase"] != "idle"
    status = wait_until(server, "anna", "live")
    again = ask(client, "Norway's capital is which city?")
    assert "Oslo" in again["choices"][0]["message"]["content"]
    assert again["adapter_version"] == status["adapter_version"] >= 1
    assert status["proof"]["prompt"] == QUESTION and "Oslo" in status["proof"]["after"]
    adapters = client.get("/v1/adapters").json()
    assert adapters["active_version"] == adapters["data"][0]["version"] and adapters["data"][0]["wins"] == 1
    version = adapters["active_version"]
    assert client.post(f"/v1/adapters/{version}/pin", json={"pinned": True}).json()["pinned"] is True
    assert client.get("/v1/adapters").json()["data"][0]["pinned"] is True
    learned = client.get("/v1/learned").json()["data"][0]
    assert (learned["question"], learned["status"]) == (QUESTION, "learned")
    assert client.post("/v1/adapters/rollback").json()["active_version"] == version - 1
    assert client.delete(f"/v1/learned/{learned['message_id']}").json()["deleted"] is True
    assert QUESTION not in client.get("/v1/learned").text


@pytest.mark.slow
def test_the_proof_and_the_lists_of_one_user_are_not_shown_to_another(server: Running) -> None:
    client = server.as_user("ben")
    wrong = ask(client, "What is the capital of Kenya?")
    say(client, wrong["message_id"], edit="The capital of Kenya is Nairobi.")
    wait_until(server, "ben", "live", "not_kept")
    mine = {entry["message_id"]: entry["right"] for entry in client.get("/v1/learned").json()["data"]}
    assert mine[wrong["message_id"]] == "The capital of Kenya is Nairobi."
    for other in ("anna", "cora"):
        seen = server.as_user(other)
        assert "Kenya" not in seen.get("/v1/learning").text + seen.get("/v1/learned").text
    others = server.as_user("anna").get("/v1/learned/others").json()["data"]
    assert wrong["message_id"] in [entry["message_id"] for entry in others] and "Kenya" not in str(others)
    assert server.as_user("anna").delete(f"/v1/learned/{wrong['message_id']}").status_code == 200
    assert "Kenya" not in client.get("/v1/learned").text


def test_votes_are_stored_and_taken_back(server: Running) -> None:
    client = server.as_user("cora")
    reply = ask(client, "What is an owl?", learn=False)["message_id"]
    for vote in ("up", "down", "none"):
        assert say(client, reply, vote=vote)["message"]["vote"] == vote


def test_a_second_hint_is_allowed_and_a_third_not(server: Running) -> None:
    client = server.as_user("cora")
    reply = ask(client, QUESTION, learn=False)["message_id"]
    first = say(client, reply, vote="down", hint="no")["revision"]
    assert say(client, first["message_id"], verdict="still_wrong")["more_hints_allowed"] is True
    second = say(client, first["message_id"], hint="no again")["revision"]
    assert say(client, second["message_id"], verdict="still_wrong")["more_hints_allowed"] is False
    refused = client.post("/v1/feedback", json={"message_id": reply, "hint": "and again"})
    assert refused.status_code == 400 and "write the right answer yourself" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({}, "none of them"),
        ({"vote": "up", "edit": "x"}, "not vote and edit"),
        ({"vote": "sideways"}, "vote: "),
        ({"vote": 1}, "vote: "),
        ({"hint": ["a"]}, "hint: "),
        ({"edit": "x" * 100_001}, "edit: "),
        ({"edit": "  "}, "The edited reply is empty"),
        ({"verdict": "better"}, "Only a revision"),
        ({"volt": "up"}, "volt: "),
    ],
)
def test_what_is_no_feedback_is_refused_and_changes_nothing(
    server: Running, said: dict[str, Any], sentence: str
) -> None:
    client = server.as_user("cora")
    reply = ask(client, "What is an owl?", learn=False)["message_id"]
    before = server.app_services.engine.store.counts()
    answer = client.post("/v1/feedback", json={"message_id": reply, **said})
    assert answer.status_code == 400 and sentence in answer.json()["error"]["message"]
    assert server.app_services.engine.store.counts() == before


@pytest.mark.parametrize("message_id", ["nothing", "", "../1", "chatcmpl-", "%00", "x" * 10_000])
def test_an_id_that_is_none_is_not_found(server: Running, message_id: str) -> None:
    answer = server.as_user("cora").post("/v1/feedback", json={"message_id": message_id, "vote": "up"})
    assert answer.status_code == 404


def test_a_question_cannot_be_voted_on(server: Running) -> None:
    client = server.as_user("cora")
    conversation = ask(client, "What is an owl?", learn=False)["conversation_id"]
    question = server.app_services.engine.store.messages(conversation)[0]
    assert client.post("/v1/feedback", json={"message_id": question.id, "vote": "up"}).status_code == 400


def test_a_client_that_keeps_no_ids_gives_feedback_with_its_history(server: Running) -> None:
    client = server.as_user("ben")
    first = ask(client, "What is a lute?", learn=False)
    told = [{"role": "user", "content": "What is a lute?"}, first["choices"][0]["message"]]
    body = {"model": "pocket-model", "messages": [*told, {"role": "user", "content": "And a harp?"}]}
    second = client.post("/v1/chat/completions", json=body).json()
    assert second["conversation_id"] == first["conversation_id"]
    whole = [*body["messages"], second["choices"][0]["message"]]
    for messages, about in ((told, first), (whole, second), ([{"role": "system", "content": "Hi."}, *told], first)):
        for vote in ("up", "down", "none"):
            said = client.post("/v1/feedback", json={"messages": messages, "vote": vote}).json()
            assert (said["message"]["message_id"], said["message"]["vote"]) == (about["message_id"], vote)


def test_feedback_with_a_history_reaches_only_what_went_like_this(server: Running) -> None:
    client = server.as_user("ben")
    reply = ask(client, "What is a zither?", learn=False)["choices"][0]["message"]
    asked, other = {"role": "user", "content": "What is a zither?"}, {"role": "assistant", "content": "No such reply."}
    for messages, status in (
        ([asked, other], 404),
        ([{**asked, "content": "What is a zyther?"}, reply], 404),
        ([asked, reply, asked, reply], 404),
        ([asked], 400),
        ([reply], 400),
    ):
        answer = client.post("/v1/feedback", json={"messages": messages, "vote": "up"})
        assert answer.status_code == status, answer.text
    said = {"messages": [asked, reply], "vote": "up"}
    assert server.as_user("cora").post("/v1/feedback", json=said).status_code == 404, "it is ben's"
    for body in ({**said, "message_id": "x"}, {"vote": "up"}):
        assert "say what it is about" in client.post("/v1/feedback", json=body).json()["error"]["message"]


def test_a_correction_made_by_talking_says_what_it_corrects_and_waits_for_a_verdict(server: Running) -> None:
    client = server.as_user("cora")
    question = "What is the capital of Portugal?"
    first = ask(client, question)
    said = first["choices"][0]["message"]["content"]
    history = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": said},
        {"role": "user", "content": "no, it's Osaka"},
    ]
    asked = {"model": server.app_services.model.name, "messages": history}
    second = client.post("/v1/chat/completions", json=asked).json()
    assert first["corrects"] is None and second["corrects"] == first["message_id"]
    before = client.get("/v1/learned").text
    declined = say(client, second["message_id"], verdict="declined")["message"]
    assert declined["verdict"] == "declined" and declined["corrects"] == first["message_id"]
    assert client.get("/v1/learned").text == before
    assert say(client, second["message_id"], verdict="better")["message"]["verdict"] == "better"
    mine = {entry["message_id"]: entry for entry in client.get("/v1/learned").json()["data"]}
    assert mine[first["message_id"]]["right"] == second["choices"][0]["message"]["content"]
    say(client, second["message_id"], vote="none")
    refused = client.post("/v1/feedback", json={"message_id": first["message_id"], "verdict": "declined"})
    assert refused.status_code == 400
