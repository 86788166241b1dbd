"""Histories sent by chat clients, and the stored conversations that they continue. No HTTP.

A client sends the whole conversation with each request. If the history matches a conversation of the user, with any of
the replies given there, that conversation is continued, with the replies that count now: a corrected answer stays corrected
although the client still shows the old one. Any other history begins a new conversation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from feedback_store import Message, UnknownRecord
from feedback_store.records import Role
from spear_core.errors import SpearError
from spear_core.models.thoughts import answer_of

if TYPE_CHECKING:
    from services.user_session import UserSession

MOST_COMPARED = 200  # conversations of the user that say the same; the newest


@dataclass(frozen=True)
class Said:
    """One message of a history."""

    role: Role
    text: str


@dataclass(frozen=True)
class History:
    """`system`, then (question, answer) after (question, answer), then the question that waits for its answer."""

    system: str
    turns: tuple[tuple[str, str], ...]
    question: str


def read_history(said: Sequence[Said]) -> History:
    """Turn a client's messages into a History.

    Consecutive messages of one role are joined, system messages come first, and an answer without a question is left out.
    Raises SpearError unless the last message is the user's.
    """
    system = "\n\n".join(s.text.strip() for s in said if s.role == "system" and s.text.strip())
    turns = [s for s in said if s.role != "system" and s.text.strip()]
    merged = [(role, [s.text.strip() for s in alike]) for role, alike in groupby(turns, lambda s: s.role)]
    if merged and merged[0][0] != "user":
        del merged[0]
    if not merged or merged[-1][0] != "user":
        raise SpearError("The last message must be the user's, and not empty.")
    texts = ["\n\n".join(parts) for _, parts in merged]
    return History(system, tuple(zip(texts[:-1:2], texts[1::2], strict=True)), texts[-1])


def conversation_for(app: UserSession, history: History, learn: bool) -> str:
    """The id of the conversation that `history.question` continues; `learn` applies to a new one."""
    store = app.store
    if history.turns:
        for conversation_id in store.conversations_that_say(history.turns[-1][0], MOST_COMPARED):
            if _is_repeated(store.messages(conversation_id), history):
                return conversation_id
    if not history.turns and not history.system:
        return app.chat.new_conversation(learn).id
    with store.transaction(flushed=False):  # the client has it too
        conversation = store.begin_conversation(history.system, history.turns, learn)
        if history.turns:
            app.chat.rename(conversation.id, history.turns[0][0])
    return conversation.id


def _is_repeated(messages: Sequence[Message], history: History) -> bool:
    """Whether the history consists of exactly these questions, each with one of its replies."""
    questions = [m for m in messages if m.role == "user"]
    if len(questions) != len(history.turns) or any(not m.complete for m in messages):
        return False
    if "\n\n".join(m.text for m in messages if m.role == "system" and m.kind == "message") != history.system:
        return False
    return all(
        asked.text == question
        and answer in {said for m in messages if m.parent_id == asked.id for said in _ways(m.text)}
        for asked, (question, answer) in zip(questions, history.turns, strict=True)
    )


def _ways(text: str) -> tuple[str, str]:
    """The forms in which a client may send a reply back: whole, or without the thought of a thinking model."""
    return text.strip(), answer_of(text).strip()


def reply_at_the_end(app: UserSession, said: Sequence[Said]) -> str:
    """The id of the reply at the end of a history, in the newest conversation of the user that matches it.

    System messages are not compared, because clients may drop them. Raises SpearError for a history that does not end with
    a reply, UnknownRecord where no conversation matches.
    """
    if not said or said[-1].role != "assistant":
        raise SpearError("The last message must be the assistant's: the reply that the feedback is about.")
    history, reply = read_history([s for s in said[:-1] if s.role != "system"]), said[-1].text.strip()
    for conversation_id in app.store.conversations_that_say(history.question, MOST_COMPARED):
        messages = app.store.messages(conversation_id)
        by_id = {m.id: m for m in messages}
        for message in reversed(messages):
            is_it = message.role == "assistant" and message.complete and reply in _ways(message.text)
            if is_it and _follows(message, history, by_id):
                return message.id
    raise UnknownRecord("None of your conversations matches these messages.")


def _follows(reply: Message, history: History, by_id: Mapping[str, Message]) -> bool:
    """Whether the reply answers the history's question after exactly these turns, each with one of its replies."""
    asked = by_id.get(reply.parent_id or "")
    for question, answer in ((history.question, None), *reversed(history.turns)):
        if asked is None or asked.text != question:
            return False
        if answer is not None and answer not in {
            said for m in by_id.values() if m.parent_id == asked.id for said in _ways(m.text)
        }:
            return False
        before = by_id.get(asked.parent_id or "")  # the first reply that the question follows
        asked = by_id.get(before.parent_id or "") if before else None
    return asked is None
