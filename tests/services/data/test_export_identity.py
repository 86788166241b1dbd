"""Export -> import -> export gives the same file, for conversations as the app itself makes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedback_store import Store
from feedback_store.transfer import Wanted
from services.accounts.users_file import User
from services.app import AppServices
from services.chat.client_histories import History, conversation_for
from services.chat.sampling import Sampling
from services.data.feedback_files import FORMATS, export_lines
from services.data.feedback_import import import_file
from services.user_session import UserSession, UserSessions
from services.views import MessageView

WRONG, RIGHT = "What is a violin?", "It is an instrument."


def ask(user: UserSession, text: str, conversation_id: str) -> MessageView:
    return list(user.chat.reply(conversation_id, text))[-1]


def converse(user: UserSession) -> None:
    """Votes, hints, revisions, edits, branches, cut replies, a correction made by talking, a thought, sampling."""
    chat, feedback = user.chat, user.feedback
    first = chat.new_conversation()
    chat.set_system_prompt(first.id, f"Answer {user.user.id} briefly.")
    violin = ask(user, WRONG, first.id)
    revision = list(chat.revise(violin.id, "no, it's a string instrument"))[-1]
    feedback.better(revision.id)
    again = list(chat.regenerate(violin.id))[-1]
    feedback.like(again.id)
    question = next(m for m in chat.messages(first.id) if m.role == "user")
    owl = list(chat.resend(question.id, "What is an owl?"))[-1]
    feedback.dislike(owl.id)
    chat.set_sampling(first.id, Sampling(temperature=0.7, seed=3, max_new_tokens=2, stop=("\n",)))
    cut = ask(user, "What is a crow?", first.id)
    assert chat.message(cut.id).ending == "length"
    feedback.edit(cut.id, "A black bird,\n\u2028 \U0001f426.")
    chat.choose(again.id)

    talk = chat.new_conversation()
    wrong = ask(user, "What is the capital of Peru?", talk.id)
    corrected = ask(user, "no, it's Lima", talk.id)
    if corrected.corrects == wrong.id:
        feedback.like(corrected.id)
    withdrawn = ask(user, "What is a harp?", talk.id)
    feedback.like(withdrawn.id)
    feedback.clear_vote(withdrawn.id)

    thought = ("What is a lute?", "<think>\nIt has strings.\n</think>\n\nAn instrument.")
    held = conversation_for(user, History("", (thought,), "And a lyre?"), learn=False)
    ask(user, "And a lyre?", held)


@pytest.fixture
def said(app: AppServices) -> AppServices:
    sessions = UserSessions(app)
    for user in (User("anna", "owner"), User("ben", "guest")):
        converse(sessions.of(user))
    return app


@pytest.mark.slow
def test_conversations_of_two_users_come_back_as_they_were(said: AppServices, tmp_path: Path) -> None:
    store, base = said.engine.store, said.engine.base
    claimed = store.claim_round(base, 0, most=2) or pytest.fail("nothing to learn")
    store.finish_round(claimed[0].id, "promoted", adapter_version=1)  # the file says that this part is trained
    kinds = {(m.kind, m.verdict, bool(m.corrects_id)) for c in store.conversations() for m in store.messages(c.id)}
    assert {("revision", "better", False), ("edit", None, False), ("message", "better", True)} <= kinds
    for format_ in FORMATS:
        exported = list(export_lines(store, format_, Wanted()))
        assert len(exported) >= 4
        content = "".join(exported)
        for copy in ("second", "third"):
            with Store(tmp_path / f"{format_}-{copy}.sqlite3") as other:
                added = import_file(other, format_, content.encode(), base).added
                assert added and import_file(other, format_, content.encode(), base).added == 0
                # what was learned there waits here
                again = "".join(export_lines(other, format_, Wanted()))
                assert again.replace('"pending"', '"trained"') == content.replace('"pending"', '"trained"')
                content = again
                if format_ != "events":
                    continue
                assert [c.user for c in other.conversations()] == [c.user for c in store.conversations()]
                for c in store.conversations():
                    assert other.messages(c.id) == store.messages(c.id) and other.votes(c.id) == store.votes(c.id)
                    assert other.leaf(c.id) == store.leaf(c.id) and other.sampling(c.id) == store.sampling(c.id)
