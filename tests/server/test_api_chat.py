"""OpenAI's own client in front of the running server: models, replies, streams, whole histories, errors."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai.pagination import SyncCursorPage

from services.views import MessageView
from tests.server.running import Running, ask, say

QUESTION = "What is the capital of Norway?"


def shown(server: Running, name: str, conversation_id: str) -> list[MessageView]:
    """What the page would show that user."""
    user = server.access.accounts.user(name) if server.access.accounts else None
    assert user is not None
    return server.access.session(user).chat.messages(conversation_id)


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def assistant(text: str) -> Any:
    return {"role": "assistant", "content": text}


def create(server: Running, *messages: Any, name: str = "ben", **more: Any) -> Any:
    return server.openai(name).chat.completions.create(model="pocket-model", messages=list(messages), **more)


def test_the_model_is_listed_and_found(server: Running) -> None:
    client = server.openai("ben")
    assert [model.id for model in client.models.list()] == ["pocket-model"]
    assert client.models.retrieve("pocket-model").object == "model"
    with pytest.raises(openai.NotFoundError, match="this server has 'pocket-model'"):
        client.models.retrieve("gpt-4")


def test_a_reply_carries_the_id_that_feedback_is_about_and_is_on_the_page_too(server: Running) -> None:
    answer = create(server, user(QUESTION))
    reply = shown(server, "ben", answer.conversation_id)[-1]
    assert (reply.id, reply.text) == (answer.message_id, answer.choices[0].message.content)
    assert answer.id == f"chatcmpl-{reply.id}" and answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 10


def test_a_stream_says_piece_by_piece_what_is_stored(server: Running) -> None:
    chunks = list(create(server, user(QUESTION), stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    reply = shown(server, "ben", chunks[0].conversation_id)[-1]
    assert len(pieces) > 2 and "".join(pieces) == reply.text
    assert {chunk.message_id for chunk in chunks} == {reply.id}
    assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-1].usage.completion_tokens >= len(pieces)


def test_a_reader_who_leaves_ends_the_reply_which_keeps_what_it_has(server: Running) -> None:
    stream = create(server, user("What can you do?"), stream=True)
    conversation_id = next(iter(stream)).conversation_id
    stream.close()
    client = server.as_user("ben")
    for _ in range(200):  # the server notices when it next writes
        if shown(server, "ben", conversation_id)[-1].complete:
            break
        client.get("/healthz")
    assert shown(server, "ben", conversation_id)[-1].complete


def test_a_repeated_history_continues_its_conversation(server: Running) -> None:
    first = create(server, user(QUESTION))
    told = [user(QUESTION), assistant(first.choices[0].message.content), user("What is an owl?")]
    second = create(server, *told)
    assert second.conversation_id == first.conversation_id
    assert [m.text for m in shown(server, "ben", first.conversation_id)][2] == "What is an owl?"
    again = create(server, *told)  # "regenerate": that conversation went on already
    assert again.conversation_id != first.conversation_id
    assert again.choices[0].message.content == second.choices[0].message.content


def test_a_corrected_answer_stays_corrected_although_the_client_still_shows_the_old_one(server: Running) -> None:
    first = ask(server.as_user("ben"), "What is the capital of Peru?", learn=False)
    say(server.as_user("ben"), first["message_id"], edit="Lima it is.")
    wrong = first["choices"][0]["message"]["content"]
    second = create(server, user("What is the capital of Peru?"), assistant(wrong), user("Is it?"))
    assert second.conversation_id == first["conversation_id"]
    stored = shown(server, "ben", second.conversation_id)
    assert [m.text for m in stored if m.kind == "edit"] == ["Lima it is."]


def test_another_history_begins_a_conversation_of_its_own_with_all_that_was_said(server: Running) -> None:
    answer = create(
        server,
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        user("Hello there"),
        user("and hello again"),
        assistant("A greeting from elsewhere."),
        user("What is 2 + 3?"),
    )
    stored = server.app_services.engine.store.messages(answer.conversation_id)
    assert [(m.role, m.text) for m in stored[:4]] == [
        ("system", "Be brief.\n\nBe kind."),
        ("user", "Hello there\n\nand hello again"),
        ("assistant", "A greeting from elsewhere."),
        ("user", "What is 2 + 3?"),
    ]
    assert stored[2].adapter_version == -1, "the model did not say it, so it must never become an anchor"
    bare = server.app_services.engine.store.unobjected_replies(10_000, 1)
    assert "A greeting from elsewhere." not in {reply.text for _, reply in bare}


def test_two_users_with_the_same_history_do_not_meet(server: Running) -> None:
    first = create(server, user("What is a violin?"), name="ben")
    told = [user("What is a violin?"), assistant(first.choices[0].message.content), user("What is an owl?")]
    assert create(server, *told, name="cora").conversation_id != first.conversation_id
    assert create(server, *told, name="ben").conversation_id == first.conversation_id


def test_a_chat_that_may_not_teach_does_not(server: Running) -> None:
    answer = ask(server.as_user("ben"), "What is an owl?", learn=False)
    assert server.app_services.engine.store.conversation(answer["conversation_id"]).learn is False


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"messages": []}, "messages: "),
        ({"messages": "hello"}, "messages: "),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role: "),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "The last message must be the user's"),
        ({"messages": [{"role": "user", "content": "  "}]}, "The last message must be the user's"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "only text can be read"),
        ({"messages": [{"role": "user", "content": "x" * 100_001}]}, "That message is too long"),
        ({"n": 2}, "n: "),
        ({"stream": "yes"}, "stream: "),
        ({"tools": [{"type": "function"}]}, "This model calls no tools"),
        ({"model": "gpt-4"}, "this server has 'pocket-model'"),
        ({"model": None}, "model: "),
    ],
)
def test_what_cannot_be_answered_is_refused_in_openais_form_with_one_sentence(
    server: Running, change: dict[str, Any], sentence: str
) -> None:
    body = {"model": "pocket-model", "messages": [{"role": "user", "content": "Hello"}], **change}
    answer = server.as_user("ben").post("/v1/chat/completions", json=body)
    error = answer.json()["error"]
    assert answer.status_code in (400, 404) and set(error) == {"message", "type", "param", "code"}
    assert sentence in error["message"] and "\n" not in error["message"] and error["message"].endswith(".")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a": ' * 5000])
def test_what_is_no_json_object_is_refused_in_openais_form(server: Running, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = server.as_user("ben").post("/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 400 and answer.json()["error"]["message"]


def test_a_form_of_another_site_is_no_json(server: Running) -> None:
    body = '{"model": "pocket-model", "messages": [{"role": "user", "content": "Hello"}]}'
    answer = server.as_user("ben").post("/v1/chat/completions", content=body, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 400 and "application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/nothing", "/v1/models/"])
def test_a_route_that_does_not_exist_says_so_in_openais_form(server: Running, path: str) -> None:
    answer = server.as_user("ben").post(path, json={})
    assert answer.status_code == 404 and path in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/v1/models/pocket-model", "/v1/learning"])
def test_head_is_answered_as_get_is_without_a_body(server: Running, path: str) -> None:
    answer = server.as_user("ben").head(path)
    assert answer.status_code == 200 and answer.content == b""
    assert server.as_user("ben").head("/v1/models/other").status_code == 404


def test_a_client_may_ask_for_a_shorter_reply_and_is_told_that_it_was_cut(server: Running) -> None:
    for name in ("max_completion_tokens", "max_tokens"):
        answer = create(server, user(QUESTION), **{name: 3})
        assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 3
        assert shown(server, "ben", answer.conversation_id)[-1].ending == "length"


def test_conversations_are_listed_page_by_page_as_openais_lists_are(server: Running) -> None:
    class Listed(openai.BaseModel):
        id: str

    ben = server.access.session(server.access.accounts.user("ben"))  # type: ignore[union-attr,arg-type]
    asked = [ben.chat.new_conversation().id for _ in range(5)][::-1]
    client = server.as_user("ben")
    page = client.get("/v1/conversations", params={"limit": 2}).json()
    assert [c["id"] for c in page["data"]] == [c["conversation_id"] for c in page["data"]] == asked[:2]
    assert (page["first_id"], page["last_id"], page["has_more"]) == (asked[0], asked[1], True)
    read = server.openai("ben").get_api_list(
        "/conversations", page=SyncCursorPage[Listed], model=Listed, options={"params": {"limit": 2}}
    )
    whole = client.get("/v1/conversations").json()
    assert [c.id for c in read] == [c["id"] for c in whole["data"]] and not whole["has_more"]
    none = client.get("/v1/conversations", params={"search": "no such words"}).json()
    assert none == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert server.as_user("cora").get("/v1/conversations", params={"after": asked[0]}).status_code == 404
    assert client.get("/v1/conversations", params={"limit": 0}).status_code == 400


def test_a_conversation_is_exported_to_whoever_it_belongs_to(server: Running) -> None:
    client = server.as_user("cora")
    reply = ask(client, "What is a heron?")
    path = f"/v1/conversations/{reply['conversation_id']}/export"
    text = client.get(path)
    assert text.headers["content-type"].startswith("text/markdown") and "## You\n\nWhat is a heron?" in text.text
    assert "attachment" in text.headers["content-disposition"]
    found = client.get(path, params={"format": "json"}).json()
    assert [m["role"] for m in found["messages"]] == ["user", "assistant"]
    listed = client.get("/v1/conversations", params={"search": "heron"}).json()["data"]
    assert reply["conversation_id"] in [c["conversation_id"] for c in listed]
    assert client.get(path, params={"format": "pdf"}).status_code == 400
    assert server.as_user("anna").get(path).status_code == 404
