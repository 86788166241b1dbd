"""What counts in a conversation: which reply stands, what prompt a reply answered, what was tried. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from feedback_store import Message


def root_id(message: Message) -> str:
    """The first reply that a revision or edit is about; a first reply is its own root."""
    return message.revises_id or message.id


def standing_reply(replies: Sequence[Message]) -> Message | None:
    """The reply that counts among all answers to one user message: edit, confirmed revision, open revision, first reply."""
    first = [m for m in replies if m.kind == "message"]
    edits = [m for m in replies if m.kind == "edit"]
    better = [m for m in replies if m.kind == "revision" and m.verdict == "better"]
    untried = [m for m in replies if m.kind == "revision" and m.verdict is None and m.complete]
    for group in (edits, better, untried, first):
        if group:
            return group[-1]
    return None


def prompt_up_to(messages: Sequence[Message], user_message_id: str) -> list[dict[str, str]]:
    """x: the conversation up to and with one user message, each earlier question with the reply that stands."""
    prompt: list[dict[str, str]] = []
    for message in messages:
        if message.role == "system":
            prompt.append({"role": "system", "content": message.text})
        elif message.role == "user":
            prompt.append({"role": "user", "content": message.text})
            if message.id == user_message_id:
                break
            reply = standing_reply([m for m in messages if m.parent_id == message.id])
            if reply is None:
                prompt.pop()  # a question that was never answered
            else:
                prompt.append({"role": "assistant", "content": reply.text})
    return prompt


def attempts(messages: Sequence[Message], first_reply_id: str) -> list[tuple[str, str]]:
    """(reply, the hint that was given on it) for the first reply and every revision but the last one."""
    chain = [m for m in messages if m.id == first_reply_id or (m.revises_id == first_reply_id and m.kind == "revision")]
    return [(now.text, after.hint or "") for now, after in zip(chain, chain[1:], strict=False)]
