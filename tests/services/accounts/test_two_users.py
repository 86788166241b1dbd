"""Two users of one app: what one of them begins ends nothing of the other's."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from services.accounts.users_file import User
from services.app import AppServices
from services.user_session import UserSessions
from services.views import MessageView
from tests.blocked_decoder import HeldReplies
from tests.services.learning.test_versions_and_demo import GOLDEN

ANNA, BEN = User("anna", "owner"), User("ben", "guest")


@pytest.mark.slow
def test_a_users_arrival_ends_no_reply_that_is_being_written_for_another(app: AppServices) -> None:
    apps = UserSessions(app)
    anna = apps.of(ANNA)
    conversation = anna.chat.new_conversation()
    question = anna.store.add_message(conversation.id, "user", "What is a violin?")
    reply = anna.store.add_message(conversation.id, "assistant", "A vio", parent_id=question.id, complete=False)
    apps.of(BEN)
    assert not anna.store.message(reply.id).complete


class Reader(threading.Thread):
    """Reads a reply to its end."""

    def __init__(self, views: Iterator[MessageView]) -> None:
        super().__init__(daemon=True)
        self._views, self.read = views, list[MessageView]()
        self.start()

    def run(self) -> None:
        self.read.extend(self._views)


def test_another_model_that_comes_to_serve_loses_sight_of_no_reply(app: AppServices) -> None:
    apps = UserSessions(app)
    asked = [apps.of(ANNA).chat.new_conversation().id for _ in range(2)]
    with HeldReplies(app.engine.batching, app.engine.loaded.tokenizer) as held:
        readers = [Reader(apps.of(ANNA).chat.reply(conversation, "What is an owl?")) for conversation in asked]
        held.until(2)
        assert app.models.switch(str(GOLDEN))
        readers += [Reader(apps.of(ANNA).chat.follow(conversation)) for conversation in asked]
        apps.of(ANNA).chat.stop(asked[0])
        closing = threading.Thread(target=apps.close)
        closing.start()
        closing.join(0.5)
        assert closing.is_alive(), "it waits for the replies that were begun before"
    closing.join(60)
    for reader in readers:
        reader.join(60)
        assert reader.read and reader.read[-1].complete and reader.read[-1].text == ""


@pytest.mark.slow
def test_who_looks_at_nothing_keeps_no_earlier_model_in_memory(app: AppServices) -> None:
    apps = UserSessions(app)
    apps.of(BEN)
    earlier = weakref.ref(app.engine.loaded.model)
    assert app.models.switch(str(GOLDEN))
    apps.of(ANNA)
    gc.collect()
    assert earlier() is None
