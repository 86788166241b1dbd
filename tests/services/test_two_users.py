"""Two users of one app: what one of them begins ends nothing of the other's."""

from __future__ import annotations

from services.accounts import User
from services.user_bench import UserBenches
from services.workbench import Workbench


def test_a_users_arrival_ends_no_reply_that_is_being_written_for_another(bench: Workbench) -> None:
    benches = UserBenches(bench)
    anna = benches.of(User("anna", "owner"))
    conversation = anna.chat.new_conversation()
    question = anna.store.add_message(conversation.id, "user", "What is a violin?")
    reply = anna.store.add_message(conversation.id, "assistant", "A vio", parent_id=question.id, complete=False)
    benches.of(User("ben", "guest"))
    assert not anna.store.message(reply.id).complete
