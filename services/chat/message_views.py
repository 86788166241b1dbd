"""What the page shows of stored conversations and messages. Nothing is asked of a model here, and nothing stored."""

from __future__ import annotations

from typing import Any

from feedback_store import Conversation, Message, Store
from services.chat.conversation_tree import open_corrections, root_id, shown_path, siblings
from services.views import ConversationView, MessageView
from spear_core.models.thoughts import split_thought


def shown_messages(store: Store, conversation_id: str, most_tries: int, gives_refused: bool) -> list[MessageView]:
    """The messages of the chosen branch in order, with votes and verdicts.

    Args:
        store: of the user.
        conversation_id: of the conversation.
        most_tries: how many revisions of one reply are allowed.
        gives_refused: whether a confirmed answer that the gate refused is given from memory.
    """
    messages = store.messages(conversation_id)
    votes = store.votes(conversation_id)
    last_try = {m.revises_id: m.id for m in messages if m.kind == "revision"}
    versions = siblings(messages)
    disliked = {message_id for message_id, vote in votes.items() if vote < 0}
    refused = store.refused_corrections(conversation_id)
    path = shown_path(messages, store.leaf(conversation_id))
    shown, last_shown = {m.id for m in path}, path[-1].id if path else ""
    unsettled = open_corrections(messages, shown, disliked, most_tries)
    return [
        message_view(
            m,
            votes.get(m.id, 0),
            can_be_judged=last_try.get(m.revises_id) == m.id,
            versions=versions.get(m.id, ()),
            can_be_hinted=unsettled.get(m.id, False),
            can_be_written=m.id in unsettled or m.id in refused,
            note=_refusal(refused[m.id], gives_refused) if m.id in refused else "",
            can_go_on=m.is_cut and root_id(m) == last_shown,
            can_be_learned=can_be_learned(store, m),
        )
        for m in messages
        if m.id in shown or m.revises_id in shown
    ]


def message_view(m: Message, vote: int, *, text: str | None = None, **more: Any) -> MessageView:
    """One message; `text` replaces the stored one while it is being written. `more` are further fields of the view."""
    can_be_judged = bool(more.pop("can_be_judged", False))
    said = m.text if text is None else text
    thought, said = split_thought(said) if m.role == "assistant" else ("", said)
    return MessageView(
        id=m.id,
        conversation_id=m.conversation_id,
        role=m.role,
        kind=m.kind,
        text=said,
        thought=thought,
        vote=vote,
        revises=m.revises_id,
        hint=m.hint,
        verdict=m.verdict,
        can_be_judged=can_be_judged and m.kind == "revision" and m.verdict is None and m.complete,
        adapter_version=m.adapter_version,
        created_at_utc=m.created_at_utc,
        complete=m.complete if text is None else False,
        ending=(m.ending or "") if text is None else "",
        corrects=m.corrects_id,
        tokens=m.tokens,
        seconds=m.seconds,
        **more,
    )


def can_be_learned(store: Store, message: Message) -> bool:
    """Whether the page asks "Learn this?" below the reply to a correction made by talking."""
    is_open = message.corrects_id is not None and message.verdict is None
    is_whole = message.complete and not message.is_cut and bool(message.text.strip())
    return is_open and is_whole and store.conversation(message.conversation_id).learn


def conversation_view(c: Conversation) -> ConversationView:
    """One conversation, with a title in any case."""
    return ConversationView(c.id, c.title or "New conversation", c.learn, c.created_at_utc)


def _refusal(verdict: str, is_given: bool) -> str:
    """Under a correction that was not learned; `is_given`: its answer is given from memory all the same."""
    reason = verdict.removeprefix("Not kept: ").rstrip(".")
    memory = " In your own chats its answer is given from memory." if is_given else ""
    advice = "Write the right answer in other words, or correct another question."
    return f"This correction was not learned: {reason}.{memory} {advice}"
