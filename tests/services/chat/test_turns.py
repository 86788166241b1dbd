"""Whose reply is written next: first come, first served, and nobody waits for a reply that was stopped.

Replies of most models are decoded together; those of models whose cache does not allow it take turns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

import pytest

from feedback_store import Message
from services.app import AppServices
from services.chat.replies import BUSY
from services.chat.turns import Turns
from services.views import MessageView
from spear_core.errors import SpearError
from tests.blocked_decoder import HeldReplies
from tests.services.harness import ask, wrong_task
from tests.services.learning.test_versions_and_demo import GOLDEN

QUESTIONS = ("What is an owl?", "What is a violin?", "What is a rose?", "What is a spoon?", "What is iron?")


class Writer:
    """A thread that takes a turn and keeps it until it is told to end."""

    def __init__(self, turns: Turns, began: list[str], name: str) -> None:
        self.stop, self.end, self.has_begun = threading.Event(), threading.Event(), threading.Event()

        def write() -> None:
            with turns.turn(self.stop):
                began.append(name)
                self.has_begun.set()
                self.end.wait(30)

        self.thread = threading.Thread(target=write, daemon=True)
        self.thread.start()

    def finish(self) -> None:
        self.end.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


def waiting(turns: Turns, count: int) -> None:
    """Until so many wait."""
    tick = threading.Event()
    for _ in range(1000):
        if len(turns._waiting) == count:
            return
        tick.wait(0.01)
    raise AssertionError(f"{len(turns._waiting)} wait, not {count}")


def queue(turns: Turns, began: list[str], names: str) -> dict[str, Writer]:
    """Writers that came one after the other, the first of which writes."""
    writers: dict[str, Writer] = {}
    for place, name in enumerate(names):
        writers[name] = Writer(turns, began, name)
        waiting(turns, place)
        assert writers[names[0]].has_begun.wait(30)
    return writers


def test_turns_come_in_the_order_of_asking_and_never_more_than_allowed_at_once() -> None:
    turns, began = Turns(1), list[str]()
    writers = queue(turns, began, "abcdef")
    for place, name in enumerate("abcdef"):
        assert writers[name].has_begun.wait(30) and began == list("abcdef")[: place + 1]
        writers[name].finish()
    assert began == list("abcdef")


def test_a_stopped_reply_leaves_the_queue_at_once_and_the_others_keep_their_places() -> None:
    turns, began = Turns(1), list[str]()
    writers = queue(turns, began, "abcd")
    writers["c"].stop.set()
    turns.skip(writers["c"].stop)
    assert writers["c"].has_begun.wait(30) and began == ["a", "c"]
    writers["c"].finish()
    waiting(turns, 2)  # b and d: what c gave back was not theirs yet
    assert began == ["a", "c"]
    for name in "abd":
        assert writers[name].has_begun.wait(30)
        writers[name].finish()
    assert began == ["a", "c", "b", "d"]
    turns.skip(writers["c"].stop)  # harmless when it is over
    assert Writer(turns, began, "e").has_begun.wait(30)


def test_an_error_in_a_turn_gives_it_back() -> None:
    turns = Turns(1)
    for _ in range(3):
        try:
            with turns.turn(threading.Event()):
                raise SpearError("the model broke")
        except SpearError:
            pass
    assert Writer(turns, [], "next").has_begun.wait(30)


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


@contextmanager
def held(app: AppServices, way: str) -> Iterator[Callable[[int], None]]:
    """No reply begins inside; what is yielded returns when so many wait."""
    engine = app.engine
    if way == "together":
        with HeldReplies(engine.batching, engine.loaded.tokenizer) as replies:
            yield replies.until
        return
    engine.turns = Turns(1)
    with patch.object(engine.batching, "takes", return_value=False), engine.turns.turn(threading.Event()):
        yield lambda count: waiting(engine.turns, count)


@pytest.mark.parametrize("way", ["together", "in turn"])
def test_a_reply_that_waited_over_a_swap_is_written_by_what_serves_then_and_says_so(app: AppServices, way: str) -> None:
    question = wrong_task(app).question
    views = []
    conversation = app.chat.new_conversation()
    with held(app, way) as until:
        reader = threading.Thread(target=lambda: views.extend(app.chat.reply(conversation.id, question)))
        reader.start()
        until(1)
        app.engine.shared_models.publish(app.engine.shared_models.initial, 7)
    reader.join(60)
    assert views and {view.adapter_version for view in views} == {7}
    assert app.chat.messages(conversation.id)[-1].adapter_version == 7


@pytest.mark.parametrize("way", ["together", "in turn"])
def test_a_reply_that_waited_while_another_model_came_to_serve_is_written_by_its_own(
    app: AppServices, way: str
) -> None:
    question, views = "What is an owl?", list[MessageView]()
    alone = ask(app, question)
    conversation = app.chat.new_conversation()
    with held(app, way) as until:
        reader = threading.Thread(target=lambda: views.extend(app.chat.reply(conversation.id, question)))
        reader.start()
        until(1)
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
        except SpearError as e:
            ends.append(str(e))

    threads = [threading.Thread(target=talk, args=(question,)) for question in QUESTIONS[:2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    said = app.chat.messages(conversation.id)
    assert [m.role for m in said] == ["user", "assistant"]
    assert sorted(ends) == sorted([said[-1].text, BUSY])


def test_closing_the_chat_does_not_wait_for_replies_that_have_not_begun(app: AppServices) -> None:
    conversation = app.chat.new_conversation()
    with held(app, "in turn") as until:
        reader = threading.Thread(target=lambda: list(app.chat.reply(conversation.id, "What is an owl?")))
        reader.start()
        until(1)
        app.chat.close()  # would wait for ever for the turn that this test holds
        reader.join(60)
    shown = app.chat.messages(conversation.id)
    assert (shown[-1].role, shown[-1].text, shown[-1].complete) == ("assistant", "", True)


def test_a_model_whose_replies_take_turns_says_the_same(app: AppServices) -> None:
    transaction = ask_all(app)
    with patch.object(app.engine.batching, "takes", return_value=False):
        assert ask_all(app) == transaction
