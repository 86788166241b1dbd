"""What the model is told before everything else: in all conversations, in one, and what of it is trained."""

from __future__ import annotations

import dataclasses

from services.accounts.users_file import LOCAL
from services.app import AppServices
from services.chat.client_histories import History, conversation_for
from services.chat.conversation_tree import prompt_up_to
from services.chat.preferences import ChatDefaults
from services.user_session import UserSessions
from tests.services.harness import ask

COMMON, OWN = "Answer briefly.", "Answer in rhymes."
QUESTION = "What is an owl?"


def told(app: AppServices, reply_id: str) -> list[str]:
    """The system messages of what a reply answered."""
    return [m["content"] for m in app.chat.prompt_of(reply_id) if m["role"] == "system"]


def test_it_is_told_in_every_conversation_and_trained_with_what_was_said(app: AppServices) -> None:
    app.feedback.preferences.set_system_prompt(COMMON)
    reply = ask(app, QUESTION)
    assert told(app, reply.id) == [COMMON]
    app.feedback.edit(reply.id, "A bird.")
    app.feedback.preferences.set_system_prompt("Something else.")
    for trace in app.engine.store.traces():
        assert trace.prompt == [{"role": "system", "content": COMMON}, {"role": "user", "content": QUESTION}]
    assert told(app, reply.id) == [COMMON], "an earlier reply was asked with what held then"


def test_a_conversations_own_wins_and_emptied_gives_way(app: AppServices) -> None:
    app.feedback.preferences.set_system_prompt(COMMON)
    conversation_id = app.chat.new_conversation().id
    app.chat.set_system_prompt(conversation_id, OWN)
    assert told(app, ask(app, QUESTION, conversation_id).id) == [OWN]
    assert app.chat.system_prompt(conversation_id) == OWN
    app.chat.set_system_prompt(conversation_id, "")
    assert told(app, ask(app, QUESTION, conversation_id).id) == [COMMON]
    assert app.chat.system_prompt(conversation_id) == ""


def test_a_change_holds_from_the_next_question_on_and_is_stored_once(app: AppServices) -> None:
    first = ask(app, QUESTION)
    app.feedback.preferences.set_system_prompt(COMMON)
    for _ in range(2):
        assert told(app, ask(app, QUESTION, first.conversation_id).id) == [COMMON]
    app.feedback.preferences.set_system_prompt("")
    assert told(app, ask(app, QUESTION, first.conversation_id).id) == []
    stored = [m.text for m in app.engine.store.messages(first.conversation_id) if m.role == "system"]
    assert told(app, first.id) == [] and stored == [COMMON, ""]


def test_a_changed_question_is_told_it_too(app: AppServices) -> None:
    reply = ask(app, QUESTION)
    question = app.chat.messages(reply.conversation_id)[0]
    app.feedback.preferences.set_system_prompt(COMMON)
    changed = list(app.chat.resend(question.id, "What is a heron?"))[-1]
    assert told(app, changed.id) == [COMMON]
    messages = app.engine.store.messages(reply.conversation_id)
    assert prompt_up_to(messages, question.id) == [{"role": "user", "content": QUESTION}]


def test_the_instance_gives_it_to_users_who_chose_nothing(app: AppServices) -> None:
    app.engine.chat_defaults = ChatDefaults(system_prompt=COMMON)
    session = UserSessions(app).of(LOCAL)
    assert session.feedback.preferences.system_prompt == COMMON
    session.feedback.preferences.set_system_prompt("")
    assert session.feedback.preferences.system_prompt == ""


def test_a_client_that_sends_its_history_goes_on_in_the_same_conversation(app: AppServices) -> None:
    app.feedback.preferences.set_system_prompt(COMMON)
    session = dataclasses.replace(UserSessions(app).of(LOCAL), chat=app.chat)
    first = ask(app, QUESTION)
    assert conversation_for(session, History("", ((QUESTION, first.text),), "And?"), True) == first.conversation_id
    other = conversation_for(session, History(OWN, ((QUESTION, first.text),), "And?"), True)
    assert other != first.conversation_id and app.chat.system_prompt(other) == OWN
