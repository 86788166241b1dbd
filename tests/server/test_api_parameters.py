"""What OpenAI's parameters ask for is done, or refused in a sentence; nothing is accepted and then ignored."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.running import Running, say

QUESTION = "What can you do?"


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def create(server: Running, *messages: Any, **more: Any) -> Any:
    told = list(messages) or [user(QUESTION)]
    return server.openai("ben").chat.completions.create(model="pocket-model", messages=told, **more)


def text_of(answer: Any) -> str:
    return str(answer.choices[0].message.content)


def post(server: Running, **more: Any) -> Any:
    body = {"model": "pocket-model", "messages": [user(QUESTION)], **more}
    return server.as_user("ben").post("/v1/chat/completions", json=body)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_reply_has_the_tokens_that_were_asked_for(server: Running, name: str) -> None:
    whole, cut = create(server), create(server, **{name: 3})
    assert whole.choices[0].finish_reason == "stop" and whole.usage.completion_tokens > 4
    assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 3
    assert text_of(whole).startswith(text_of(cut)) and text_of(cut) != text_of(whole)
    chunks = list(create(server, stream=True, **{name: 3}))
    assert chunks[-1].choices[0].finish_reason == "length"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text_of(cut)


def test_a_reply_may_be_longer_than_is_usual_here(server: Running) -> None:
    usual = server.app_services.engine.max_new_tokens
    endless = create(server, temperature=2.0, seed=5, max_tokens=usual + 30)
    assert endless.choices[0].finish_reason == "stop" or endless.usage.completion_tokens > usual


def test_a_stop_text_ends_the_reply_and_is_not_part_of_it(server: Running) -> None:
    whole = text_of(create(server))
    word = whole.split()[3]
    for stop in (word, [word], ["not in it at all", word]):
        answer = create(server, stop=stop)
        assert text_of(answer) == whole[: whole.index(word)].strip() and answer.choices[0].finish_reason == "stop"
    chunks = list(create(server, stop=word, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole[: whole.index(word)].strip()


def test_a_reply_that_a_stop_text_ended_is_cut_and_never_learned_as_right(server: Running) -> None:
    """Taught as it stands, it would teach the model to end there. The client is told `stop`, as OpenAI says it."""
    whole = create(server)
    cut = create(server, stop=text_of(whole).split()[3])
    client, store = server.as_user("ben"), server.app_services.engine.store
    for answer, ending, sides in ((cut, "stopped", []), (whole, "ended", ["win"])):
        assert answer.choices[0].finish_reason == "stop"
        assert store.message(answer.message_id).ending == ending
        say(client, answer.message_id, vote="up")
        assert [trace.side for trace in store.traces(subject_id=answer.message_id)] == sides
        say(client, answer.message_id, vote="none")


def test_usage_counts_an_end_token_only_where_there_is_one(server: Running) -> None:
    whole = create(server)
    words = text_of(whole).split()
    cut = create(server, stop=words[-1])
    assert 0 < cut.usage.completion_tokens < whole.usage.completion_tokens
    client = server.as_user("ben")
    for answer in (whole, cut, create(server, max_tokens=3)):
        kept = client.get(f"/v1/responses/resp_{answer.message_id}").json()
        assert kept["usage"]["output_tokens"] == answer.usage.completion_tokens
        assert kept["status"] == ("completed" if answer is whole else "incomplete")
        reason = kept["incomplete_details"] and kept["incomplete_details"]["reason"]
        assert (reason == "max_output_tokens") == (answer.choices[0].finish_reason == "length")


def test_temperature_draws_and_a_seed_draws_the_same_again(server: Running) -> None:
    drawn = [text_of(create(server, temperature=2.0, seed=seed, max_tokens=20)) for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1] and len(set(drawn)) > 1
    greedy = text_of(create(server, max_tokens=20))
    assert text_of(create(server, temperature=0, max_tokens=20)) == greedy
    assert text_of(create(server, temperature=2.0, top_p=0, max_tokens=20)) == greedy
    assert text_of(create(server, temperature=2.0, top_p=0.0001, seed=1, max_tokens=20)) == greedy


@pytest.mark.slow
@pytest.mark.parametrize("penalty", ["frequency_penalty", "presence_penalty"])
def test_penalties_lower_what_was_said(server: Running, penalty: str) -> None:
    drawn = {"temperature": 2.0, "max_tokens": 30}
    usual = {seed: text_of(create(server, **drawn, seed=seed)) for seed in range(4)}
    assert text_of(create(server, **drawn, seed=0, **{penalty: 0})) == usual[0]
    assert any(text_of(create(server, **drawn, seed=seed, **{penalty: -2})) != said for seed, said in usual.items())


def test_what_is_asked_for_once_does_not_stay(server: Running) -> None:
    cut = create(server, max_tokens=3)
    told = [user(QUESTION), {"role": "assistant", "content": text_of(cut)}, user("What is an owl?")]
    more = create(server, *told)
    assert more.conversation_id == cut.conversation_id and more.choices[0].finish_reason == "stop"


NULLS = (
    "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "seed",
    "frequency_penalty", "presence_penalty", "n", "logprobs", "top_logprobs", "logit_bias", "response_format", "tools",
    "tool_choice", "functions", "function_call", "learn", "user", "metadata", "store", "parallel_tool_calls",
    "service_tier", "reasoning_effort", "modalities", "audio", "prediction", "web_search_options", "verbosity",
)  # fmt: skip


def test_nulls_are_what_was_not_said(server: Running) -> None:
    answer = post(server, **dict.fromkeys(NULLS))
    assert answer.status_code == 200, answer.text
    message = {"role": "user", "content": QUESTION, "name": None}
    reply = {"role": "assistant", "content": "Hm.", "tool_calls": None, "function_call": None, "refusal": None}
    answer = post(server, messages=[message, reply, message], stream_options={"include_usage": None})
    assert answer.status_code == 200, answer.text


def test_learn_null_is_as_if_it_was_not_said(server: Running) -> None:
    for learn, expected in ((None, True), (True, True), (False, False)):
        conversation_id = post(server, learn=learn).json()["conversation_id"]
        assert server.app_services.engine.store.conversation(conversation_id).learn is expected


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"response_format": {"type": "json_object"}}, "replies are plain text here; 'json_object' cannot be promised"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "'json_schema' cannot be promised"),
        ({"logprobs": True}, "logprobs: this cannot be honoured here"),
        ({"top_logprobs": 3}, "top_logprobs: this cannot be honoured here"),
        ({"logit_bias": {"5": 1}}, "logit_bias: this cannot be honoured here"),
        ({"top_k": 5}, "top_k: this cannot be honoured here"),
        ({"modalities": ["text", "audio"]}, "modalities: replies are plain text here"),
        ({"audio": {"voice": "x"}}, "audio: this cannot be honoured here"),
        ({"web_search_options": {"x": 1}}, "web_search_options: this cannot be honoured here"),
        ({"reasoning_effort": "high"}, "reasoning_effort: this cannot be honoured here"),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"max_tokens": "3"}, "max_tokens: "),
        ({"temperature": 2.1}, "temperature: "),
        ({"temperature": -1}, "temperature: "),
        ({"top_p": 1.1}, "top_p: "),
        ({"frequency_penalty": 3}, "frequency_penalty: "),
        ({"seed": 2**70}, "seed: "),
        ({"stop": [""]}, "stop.0: "),
        ({"stop": ["x"] * 17}, "stop: "),
        ({"n": 2}, "n: one reply is written at a time"),
        ({"tools": [{"type": "function"}]}, "This model calls no tools"),
        ({"tools": [{"type": "function"}], "tool_choice": "auto"}, "tool_choice: this model calls no tools"),
        ({"tools": [{"type": "function"}], "tool_choice": "required"}, "tool_choice: this model calls no tools"),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "this model calls no tools"),
        ({"functions": [{"name": "x"}]}, "This model calls no tools"),
        ({"functions": [{"name": "x"}], "function_call": {"name": "x"}}, "this model calls no tools"),
    ],
)
def test_what_cannot_be_honoured_is_refused_and_nothing_is_asked(
    server: Running, asked: dict[str, Any], sentence: str
) -> None:
    store = server.app_services.engine.store
    before = len(store.conversations())
    answer = post(server, **asked)
    error = answer.json()["error"]
    assert answer.status_code == 400 and sentence in error["message"] and error["message"].endswith(".")
    assert len(store.conversations()) == before


@pytest.mark.parametrize("choice", ["none", None])
def test_tools_that_are_not_to_be_called_are_no_hindrance(server: Running, choice: str | None) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}] if choice else []
    answer = post(server, tools=tools, tool_choice=choice, parallel_tool_calls=True)
    assert answer.status_code == 200 and answer.json()["choices"][0]["message"]["content"]


def test_what_tools_said_elsewhere_is_read_as_text(server: Running) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    answer = create(
        server,
        user("Is it raining?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "heavy rain"},
        {"role": "assistant", "content": "It is."},
        user("What is an owl?"),
    )
    stored = server.app_services.engine.store.messages(answer.conversation_id)
    assert [(m.role, m.text) for m in stored[:3]] == [
        ("user", "Is it raining?\n\nResult of weather:\nheavy rain"),
        ("assistant", "It is."),
        ("user", "What is an owl?"),
    ]
    ends = create(
        server,
        user("Is it raining?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "no rain"}]},
    )
    assert text_of(ends)
