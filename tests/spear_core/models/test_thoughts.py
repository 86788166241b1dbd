"""Thinking models: the tags of their own thoughts are tokens, old thoughts are dropped, targets are what they emit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from spear_core.models.chat_template import can_switch_thinking, is_switched_off, layout_of, with_thinking
from spear_core.models.prompts import (
    decode_reply,
    encode_completion,
    encode_no_thought,
    encode_prompt,
    encode_text,
    end_token_ids,
)
from spear_core.models.thoughts import answer_of, is_thinking, pieces, split_thought
from tests.tiny_models import THINKING_KINDS, tiny_tokenizer

ROOMY = 10_000
THOUGHT = "<think>\nThe otter lives there.\n\nSo it is Oslo.\n</think>\n\nIt lives in Oslo."
WORDS = st.text(st.sampled_from("otter Oslo.\n?!"), min_size=1, max_size=30).map(str.strip).filter(bool)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    made: dict[str, Any] = {kind: tiny_tokenizer(kind) for kind in (*THINKING_KINDS, "qwen2")}
    made["off"] = with_thinking(made["qwen3"], False)
    return made


def tags_in(tokenizer: Any, ids: list[int]) -> int:
    return sum(i in layout_of(tokenizer).thought_ids for i in ids)


@pytest.mark.parametrize("kind", ["qwen3", "off", "begun"])
@pytest.mark.parametrize("said", [THOUGHT, "It lives in Oslo.", "<think>\n\n</think>\n\nOslo.", "<think>\nThe otter"])
def test_the_history_that_is_sent_is_what_the_template_makes_of_it(tokenizers: Any, kind: str, said: str) -> None:
    tokenizer = tokenizers[kind]
    messages = [user("Where is it?"), assistant(said), user("And Vera?"), assistant(THOUGHT), user("Why?")]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    ids = encode_prompt(tokenizer, messages, max_tokens=ROOMY)
    assert ids == expected
    if said == THOUGHT:
        assert "The otter" not in tokenizer.decode(ids), "old thoughts are dropped"


def test_a_template_that_keeps_thoughts_gets_them_as_tokens(tokenizers: Any) -> None:
    tokenizer = tiny_tokenizer("qwen3")
    tokenizer.chat_template = tokenizers["qwen2"].chat_template
    messages = [user("Where?"), assistant(THOUGHT), user("Why?")]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert encode_prompt(tokenizer, messages, max_tokens=ROOMY) == expected
    assert tags_in(tokenizer, expected) == 2


@pytest.mark.parametrize("kind", ["qwen3", "off", "begun"])
def test_tags_that_a_person_types_are_no_tokens(tokenizers: Any, kind: str) -> None:
    tokenizer = tokenizers[kind]
    harmless = tags_in(tokenizer, encode_prompt(tokenizer, [user("a")], max_tokens=ROOMY))
    for typed in (THOUGHT, "</think>", "say <think> please <|im_end|>"):
        messages = [user(typed), assistant("Oslo."), user(f"{typed} again")]
        assert tags_in(tokenizer, encode_prompt(tokenizer, messages, max_tokens=ROOMY)) == harmless
        assert tags_in(tokenizer, encode_text(tokenizer, typed)) == 0
    # nor are tags in the middle of an answer, of a model that repeats what it was told
    said = encode_completion(tokenizer, "You typed <think> and </think>.")
    assert tags_in(tokenizer, said) == tags_in(tokenizer, encode_completion(tokenizer, "You typed."))


@pytest.mark.parametrize("kind", ["qwen3", "begun"])
@settings(max_examples=40, deadline=None)
@given(thought=WORDS, answer=WORDS)
def test_the_target_of_a_reply_is_what_the_model_emitted(tokenizers: Any, kind: str, thought: str, answer: str) -> None:
    tokenizer = tokenizers[kind]
    layout = layout_of(tokenizer)
    emitted = f"<think>\n{thought}\n</think>\n\n{answer}"
    tokens = tokenizer(emitted.removeprefix(layout.opened_thought), add_special_tokens=False)["input_ids"]
    text = decode_reply(tokenizer, tokens)
    assert split_thought(text) == (thought, answer), "the page shows both"
    assert encode_completion(tokenizer, text) == [*tokens, *end_token_ids(tokenizer)[:1]]


@pytest.mark.parametrize("kind", ["qwen3", "off", "begun"])
def test_an_answer_without_a_thought_is_what_the_template_ends_a_conversation_with(tokenizers: Any, kind: str) -> None:
    tokenizer = tokenizers[kind]
    prompt = encode_prompt(tokenizer, [user("Where?")], max_tokens=ROOMY)
    target = encode_completion(tokenizer, "In Oslo.")
    text = tokenizer.decode([*prompt, *target])
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\nIn Oslo.<|im_end|>")
    # decoding gives the same words, so that what was taught is recognised
    assert decode_reply(tokenizer, target) == "In Oslo."
    assert target[: len(encode_no_thought(tokenizer))] == encode_no_thought(tokenizer)


def test_thinking_is_switched_off_as_the_template_does_it(tokenizers: Any) -> None:
    on, off = tokenizers["qwen3"], tokenizers["off"]
    messages = [user("Where?"), assistant(THOUGHT), user("Why?")]
    expected = on.apply_chat_template(messages, add_generation_prompt=True, return_dict=False, enable_thinking=False)
    assert encode_prompt(off, messages, max_tokens=ROOMY) == expected
    assert can_switch_thinking(on) and can_switch_thinking(off) and is_switched_off(off) and not is_switched_off(on)
    assert with_thinking(off, True).chat_template == on.chat_template and with_thinking(off, False) is off
    assert not can_switch_thinking(tokenizers["begun"]) and not can_switch_thinking(tokenizers["qwen2"])
    # a reply with a thought teaches its answer alone: the model is not to think here
    assert encode_completion(off, THOUGHT) == encode_completion(off, "It lives in Oslo.")
    assert encode_no_thought(off) == []


def test_a_thought_under_way_is_continued_where_it_stopped(tokenizers: Any) -> None:
    for kind in ("qwen3", "begun"):
        tokenizer = tokenizers[kind]
        cut = "<think>\nThe otter lives"
        text = tokenizer.decode(encode_completion(tokenizer, cut, ended=False))
        assert text == cut.removeprefix(layout_of(tokenizer).opened_thought)


def test_tags_that_are_special_tokens_are_shown_too() -> None:
    tokenizer = tiny_tokenizer("qwen3")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    tokens = encode_completion(tokenizer, THOUGHT)
    assert tags_in(tokenizer, tokens) == 2 and set(tokenizer.all_special_ids) & set(tokens[:1])
    assert decode_reply(tokenizer, tokens) == THOUGHT


def test_text_is_split_where_its_thought_ends() -> None:
    assert split_thought("An owl is a bird.") == ("", "An owl is a bird.")
    assert split_thought("It wrote <think>x</think>.") == ("", "It wrote <think>x</think>."), "not at the beginning"
    assert split_thought("<think>\nhm") == ("hm", "") and is_thinking("<think>\nhm")
    assert answer_of("<think></think>a bird") == "a bird" and not is_thinking(THOUGHT)
    assert "".join(part for _, part in pieces(THOUGHT)) == THOUGHT


def test_the_folder_of_a_thinking_model_keeps_its_tags(tmp_path: Path) -> None:
    tiny_tokenizer("qwen3").save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tags_in(tokenizer, encode_completion(tokenizer, THOUGHT)) == 2
