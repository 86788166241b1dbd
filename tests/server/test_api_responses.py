"""/v1/responses and /v1/completions, by OpenAI's own client."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.server.running import Running, say

QUESTION = "What is the capital of Norway?"


def create(server: Running, said: Any = QUESTION, name: str = "ben", **more: Any) -> Any:
    return server.openai(name).responses.create(model="pocket-model", input=said, **more)


def test_a_response_is_a_reply_that_feedback_can_be_about(server: Running) -> None:
    response = create(server)
    chat = server.openai("ben").chat.completions.create(
        model="pocket-model", messages=[{"role": "user", "content": QUESTION}]
    )
    assert response.status == "completed" and response.output_text == chat.choices[0].message.content
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert response.usage.output_tokens == chat.usage.completion_tokens
    for name in (response.id, response.output[0].id):
        said = say(server.as_user("ben"), name, vote="up")
        assert said["message"]["message_id"] == response.message_id and said["message"]["vote"] == "up"
        say(server.as_user("ben"), name, vote="none")


def test_a_stream_ends_with_the_whole_response(server: Running) -> None:
    events = list(create(server, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == events[-1].response.output_text == create(server).output_text


def test_a_conversation_goes_on_from_any_of_its_responses(server: Running) -> None:
    first = create(server, "What is an owl?", instructions="Be brief.")
    second = create(server, QUESTION, previous_response_id=first.id)
    other = create(server, "What is a lute?", previous_response_id=first.id)
    assert second.conversation_id == other.conversation_id == first.conversation_id
    stored = {m.id: m for m in server.app_services.engine.store.messages(first.conversation_id)}
    for response in (second, other):
        question = stored[stored[response.message_id].parent_id or ""]
        assert question.parent_id == first.message_id, "each follows the response that was named"
    with pytest.raises(openai.NotFoundError):
        create(server, QUESTION, previous_response_id="resp_none")
    with pytest.raises(openai.NotFoundError):
        create(server, QUESTION, previous_response_id=first.id, name="cora")


def test_items_are_a_history(server: Running) -> None:
    response = create(
        server,
        [
            {"role": "developer", "content": "Be brief."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Is it raining?"}]},
            {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "heavy rain"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "It is."}]},
            {"role": "user", "content": "What is an owl?"},
        ],
    )
    stored = server.app_services.engine.store.messages(response.conversation_id)
    assert [m.role for m in stored] == ["system", "user", "assistant", "user", "assistant"]
    assert "heavy rain" in stored[1].text and stored[2].text == "It is."


def test_a_response_can_be_cut_and_retrieved(server: Running) -> None:
    cut = create(server, "What can you do?", max_output_tokens=3)
    assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens"
    assert cut.usage.output_tokens == 3
    assert list(create(server, "What can you do?", max_output_tokens=3, stream=True))[-1].type == "response.incomplete"
    again = server.openai("ben").responses.retrieve(cut.id)
    assert again.output_text == cut.output_text and again.id == cut.id
    with pytest.raises(openai.NotFoundError):
        server.openai("cora").responses.retrieve(cut.id)


def test_store_false_is_kept_out_of_training(server: Running) -> None:
    for store, expected in ((False, False), (True, True), (None, True)):
        response = create(server, store=store)
        assert server.app_services.engine.store.conversation(response.conversation_id).learn is expected


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"tools": [{"type": "web_search"}]}, "This model calls no tools"),
        ({"text": {"format": {"type": "json_object"}}}, "'json_object' cannot be promised"),
        ({"background": True}, "background: this cannot be honoured here"),
        ({"conversation": "conv_1"}, "conversation: this cannot be honoured here"),
        ({"reasoning": {"effort": "high"}}, "reasoning: this cannot be honoured here"),
        ({"input": []}, "The last message must be the user's"),
        ({"input": [{"type": "image"}]}, "an item is a message with role and text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "only text can be read"),
        ({"input": 7}, "a text, or up to"),
        ({"model": "gpt-4"}, "this server has 'pocket-model'"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(server: Running, asked: dict[str, Any], sentence: str) -> None:
    answer = server.as_user("ben").post("/v1/responses", json={"model": "pocket-model", "input": "Hello", **asked})
    error = answer.json()["error"]
    assert answer.status_code in (400, 404) and sentence in error["message"] and error["message"].endswith(".")


def test_null_fields_and_texts_of_every_kind(server: Running) -> None:
    fields = (
        "instructions", "previous_response_id", "max_output_tokens", "stream", "text", "background", "conversation",
        "prompt", "store", "metadata", "reasoning", "temperature", "top_p", "tools", "tool_choice", "truncation", "include",
        "learn", "user", "parallel_tool_calls", "top_logprobs",
    )  # fmt: skip
    body = {"model": "pocket-model", "input": "Hello", **dict.fromkeys(fields)}
    assert server.as_user("ben").post("/v1/responses", json=body).status_code == 200
    body |= {"text": {"format": {"type": "text"}}, "reasoning": {"effort": None}, "tools": []}
    assert server.as_user("ben").post("/v1/responses", json=body).status_code == 200


# -- /v1/completions ---------------------------------------------------------------------------------------------------


def test_a_bare_text_is_continued_and_not_stored(server: Running) -> None:
    store = server.app_services.engine.store
    before = len(store.conversations())
    client = server.openai("ben")
    answer = client.completions.create(model="pocket-model", prompt="The capital of Norway is", max_tokens=6)
    assert answer.object == "text_completion" and answer.choices[0].text
    assert answer.usage.completion_tokens <= 7 and answer.choices[0].finish_reason in ("stop", "length")
    chunks = list(
        client.completions.create(
            model="pocket-model",
            prompt=["The capital of Norway is"],
            max_tokens=6,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(c.choices[0].text for c in chunks if c.choices) == answer.choices[0].text
    assert chunks[-1].usage == answer.usage
    echoed = client.completions.create(model="pocket-model", prompt="The capital", max_tokens=2, echo=True)
    assert echoed.choices[0].text.startswith("The capital")
    assert len(store.conversations()) == before


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"prompt": ["a", "b"]}, "one text is continued at a time"),
        ({"prompt": [1, 2]}, "one text is continued at a time"),
        ({"prompt": ""}, "A prompt has 1 to"),
        ({"suffix": "x"}, "suffix: this cannot be honoured"),
        ({"best_of": 3}, "best_of: this cannot be honoured"),
        ({"logprobs": 2}, "logprobs: this cannot be honoured"),
        ({"n": 2}, "one reply is written at a time"),
        ({"model": "gpt-4"}, "this server has"),
    ],
)
def test_a_completion_that_cannot_be_made_is_refused(server: Running, asked: dict[str, Any], sentence: str) -> None:
    answer = server.as_user("ben").post("/v1/completions", json={"model": "pocket-model", "prompt": "The", **asked})
    assert answer.status_code in (400, 404) and sentence in answer.json()["error"]["message"]
