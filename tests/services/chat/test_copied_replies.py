"""What a small model reads of a conversation, through the chat service. The decoder is told what to say."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from services.app import AppServices
from services.learning import comparison
from spear_core.inference.generate import ReplySettings
from spear_core.inference.generation import Finish
from spear_core.inference.rollout import Reply
from spear_core.training.traces import Messages
from tests.services.conftest import OpenBench
from tests.services.harness import ask

LUNA = "Your cat is called Luna, and she likes me."
CAT, SPIDER = "What is my cat called?", "How many legs does a spider have?"


class Told:
    """Takes the place of the decoding engine: says LUNA to everything, and to a question alone that it does not know."""

    def __init__(self) -> None:
        self.read: list[list[str]] = []

    def __call__(self, model: Any, tokenizer: Any, messages: Messages, *rest: Any) -> Iterator[str]:
        self.read.append([m["content"] for m in messages])
        yield LUNA if len(messages) > 1 or messages[0]["content"] == CAT else "I do not know that."


@pytest.fixture
def told(open_app: OpenBench, monkeypatch: pytest.MonkeyPatch) -> tuple[AppServices, Told]:
    app, decoder = open_app(scope="near"), Told()
    monkeypatch.setattr(app.engine.batching, "stream", decoder)
    return app, decoder


def test_a_reply_that_copies_an_earlier_one_is_written_again_without_it(told: tuple[AppServices, Told]) -> None:
    app, decoder = told
    cat = ask(app, CAT)
    assert cat.text == LUNA
    assert ask(app, SPIDER, cat.conversation_id).text == "I do not know that."
    assert decoder.read == [[CAT], [CAT, LUNA, SPIDER], [SPIDER]]


def test_a_program_gets_the_reply_to_all_that_it_sent(told: tuple[AppServices, Told]) -> None:
    app, decoder = told
    cat = ask(app, CAT)
    *_, reply = app.chat.reply(cat.conversation_id, SPIDER, drawn={"max_new_tokens": 32})
    assert reply.text == LUNA and decoder.read[1:] == [[CAT, LUNA, SPIDER]]


def read_related_only(app: AppServices, monkeypatch: pytest.MonkeyPatch, **others: bool) -> None:
    settings = dataclasses.replace(app.engine.loaded.settings, reads_related_only=True, **others)
    loaded = dataclasses.replace(app.engine.loaded, settings=settings)
    monkeypatch.setattr(app.engine, "model", dataclasses.replace(app.engine.model, loaded=loaded))


def test_a_model_that_says_so_reads_only_what_has_to_do_with_the_question(
    told: tuple[AppServices, Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, decoder = told
    read_related_only(app, monkeypatch)
    cat = ask(app, CAT)
    ask(app, SPIDER, cat.conversation_id)
    ask(app, "Does my cat like a spider?", cat.conversation_id)
    assert decoder.read[1] == [SPIDER]
    assert decoder.read[2] == [CAT, LUNA, SPIDER, "I do not know that.", "Does my cat like a spider?"]


@pytest.mark.parametrize("reads_all", [True, False])
def test_the_comparison_lets_the_untouched_model_read_what_a_chat_would(
    open_app: OpenBench, monkeypatch: pytest.MonkeyPatch, reads_all: bool
) -> None:
    app = open_app(scope="near")
    if not reads_all:
        read_related_only(app, monkeypatch)
    read: list[Messages] = []

    def sample_replies(
        model: Any, tokenizer: Any, prompts: list[Messages], settings: ReplySettings
    ) -> list[list[Reply]]:
        read.extend(prompts)
        return [[Reply("Eight.", (), Finish.ENDED)]]

    monkeypatch.setattr(comparison, "sample_replies", sample_replies)
    said = [{"role": "user", "content": CAT}, {"role": "assistant", "content": LUNA}]
    question = {"role": "user", "content": SPIDER}
    app.comparison.answers([*said, question], [0])
    assert read == [[*said, question] if reads_all else [question]]


@pytest.mark.parametrize("asked_by", ["person", "program"])
def test_what_the_person_told_is_said_by_a_small_model_and_programs_get_its_own_reply(
    told: tuple[AppServices, Told], monkeypatch: pytest.MonkeyPatch, asked_by: str
) -> None:
    app, decoder = told
    read_related_only(app, monkeypatch, revise_by_request_only=False)
    said = ask(app, "My dog is called Bruno.")
    drawn = {"max_new_tokens": 32} if asked_by == "program" else None
    *_, reply = app.chat.reply(said.conversation_id, "What is my dog called?", drawn=drawn)
    assert ("Bruno" in reply.text) is (asked_by == "person") and reply.adapter_version == 0
    *_, other = app.chat.reply(said.conversation_id, "What is my cat called?", drawn=drawn)
    assert "Bruno" not in other.text


@pytest.mark.parametrize("asked_by", ["person", "program"])
def test_who_asks_for_another_reply_does_not_get_the_same(open_app: OpenBench, asked_by: str) -> None:
    app = open_app(scope="near")
    drawn = {"max_new_tokens": 32} if asked_by == "program" else None
    first = ask(app, "Tell me something about an owl.")
    *_, second = app.chat.reply(first.conversation_id, "Another one, please.", drawn=drawn)
    texts = [first.text, second.text]
    for _ in range(6):
        *_, more = app.chat.reply(first.conversation_id, "Another one, please.", drawn=drawn)
        texts.append(more.text)
    assert all(texts)
    if asked_by == "person":
        pairs = list(zip(texts, texts[1:], strict=False))
        assert sum(a == b for a, b in pairs) <= 1, texts
