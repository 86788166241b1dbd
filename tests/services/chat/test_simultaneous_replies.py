"""Several replies at once: each says what it says alone, whatever is published, switched or closed meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from feedback_store import Message
from services.app import AppServices
from services.chat.replies import BUSY, ConversationBusy
from services.views import MessageView
from spear_core.inference import continuous_batching
from spear_core.inference.fused_model import FusedModel
from spear_core.inference.row_states import PaddedRows, SingleRows
from tests.blocked_decoder import HeldReplies
from tests.services.harness import ask, wrong_task
from tests.services.learning.test_versions_and_demo import GOLDEN

QUESTIONS = ("What is an owl?", "What is a violin?", "What is a rose?", "What is a spoon?", "What is iron?")


def ask_all(app: AppServices) -> list[str]:
    """Ask every question in a conversation and a thread of its own, all at once; the replies by question."""
    replies: dict[str, str] = {}

    def ask(question: str) -> None:
        conversation = app.chat.new_conversation(learn=False)
        replies[question] = list(app.chat.reply(conversation.id, question))[-1].text

    threads = [threading.Thread(target=ask, args=(question,)) for question in QUESTIONS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [replies[question] for question in QUESTIONS]


def test_many_replies_at_once_say_what_each_says_alone(app: AppServices) -> None:
    alone = [
        list(app.chat.reply(app.chat.new_conversation(learn=False).id, question))[-1].text for question in QUESTIONS
    ]
    assert all(alone) and ask_all(app) == alone


def held(app: AppServices) -> HeldReplies:
    """No reply begins inside."""
    return HeldReplies(app.engine.batching, app.engine.loaded.tokenizer)


def test_a_reply_that_waited_over_a_swap_is_written_by_what_serves_then_and_says_so(app: AppServices) -> None:
    question = wrong_task(app).question
    views = []
    conversation = app.chat.new_conversation()
    with held(app) as replies:
        reader = threading.Thread(target=lambda: views.extend(app.chat.reply(conversation.id, question)))
        reader.start()
        replies.until(1)
        app.engine.shared_models.publish(app.engine.shared_models.initial, 7)
    reader.join(60)
    assert views and {view.adapter_version for view in views} == {7}
    assert app.chat.messages(conversation.id)[-1].adapter_version == 7


def test_a_reply_that_waited_while_another_model_came_to_serve_is_written_by_its_own(app: AppServices) -> None:
    question, views = "What is an owl?", list[MessageView]()
    alone = ask(app, question)
    conversation = app.chat.new_conversation()
    with held(app) as replies:
        reader = threading.Thread(target=lambda: views.extend(app.chat.reply(conversation.id, question)))
        reader.start()
        replies.until(1)
        assert app.models.switch(str(GOLDEN))
    reader.join(60)
    assert views and views[-1].text == alone.text


def test_of_two_questions_at_once_in_one_conversation_one_is_answered(
    app: AppServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation, store = app.chat.new_conversation(), app.engine.store
    both, add_message = threading.Barrier(2), store.add_message

    def add_together(*said: Any, **more: Any) -> Message:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)
        return add_message(*said, **more)

    monkeypatch.setattr(store, "add_message", add_together)
    ends: list[str] = []

    def talk(question: str) -> None:
        try:
            ends.append(list(app.chat.reply(conversation.id, question))[-1].text)
        except ConversationBusy as e:
            ends.append(str(e))

    threads = [threading.Thread(target=talk, args=(question,)) for question in QUESTIONS[:2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    said = app.chat.messages(conversation.id)
    assert [m.role for m in said] == ["user", "assistant"]
    assert sorted(ends) == sorted([said[-1].text, BUSY])


def test_closing_the_chat_ends_a_reply_that_has_not_begun(app: AppServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuous_batching, "MOST_ROWS", 1)
    first, second = app.chat.new_conversation(), app.chat.new_conversation()
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        begun.set()
        go_on.wait(60)

    embeddings = app.engine.shared_models.serving.model.get_input_embeddings()
    ask(app, "Hello!")  # a model is compared once with its own forward
    hook = embeddings.register_forward_hook(slow)
    readers = []
    for place, conversation in enumerate((first, second)):
        readers.append(threading.Thread(target=lambda c=conversation: list(app.chat.reply(c.id, "What is an owl?"))))
        readers[-1].start()
        assert begun.wait(60)
        until(lambda place=place: len(app.engine.batching._waiting) == place)
    closing = threading.Thread(target=app.chat.close)
    closing.start()
    running = app.chat._replies._running
    until(lambda: all(writing.stop.is_set() for writing in list(running.values())))
    go_on.set()
    for thread in (*readers, closing):
        thread.join(60)
        assert not thread.is_alive()
    hook.remove()
    shown = app.chat.messages(second.id)
    assert (shown[-1].role, shown[-1].text, shown[-1].complete) == ("assistant", "", True)


def until(reached: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(3000):
        if reached():
            return
        tick.wait(0.01)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("rows", [PaddedRows, SingleRows])
def test_a_model_that_is_computed_in_another_way_says_the_same(
    app: AppServices, monkeypatch: pytest.MonkeyPatch, rows: type
) -> None:
    together = ask_all(app)
    monkeypatch.setattr(FusedModel, "of", lambda model: None)
    if rows is SingleRows:
        monkeypatch.setattr(PaddedRows, "begin", lambda *_: None)
    assert ask_all(app) == together
