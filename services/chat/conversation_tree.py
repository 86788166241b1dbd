"""Conversations as trees: branches, the reply that counts, the prompt of a reply. Pure functions.

The nodes of the tree are questions and first replies. Regenerating a reply adds a sibling to it, editing a question adds a
sibling to the question. Revisions and edits belong to the first reply that they are about.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from feedback_store import Message
from spear_core.models.thoughts import answer_of


def root_id(message: Message) -> str:
    """The first reply that a revision or edit is about; a first reply is its own root."""
    return message.revises_id or message.id


def subject_id(message: Message) -> str:
    """The first reply that a word on a message is about; of a correction made by talking, the reply that it corrects."""
    return message.corrects_id or root_id(message)


def _nodes(messages: Sequence[Message]) -> list[Message]:
    return [m for m in messages if m.role != "system" and m.kind == "message"]


def shown_path(messages: Sequence[Message], leaf_id: str | None) -> list[Message]:
    """The questions and first replies of the branch with `leaf_id`, from the root to the newest one below it.

    Without a leaf, or with one that was deleted, the branch of the newest message.
    """
    nodes = _nodes(messages)
    if not nodes:
        return []
    by_id = {m.id: m for m in nodes}
    newest_child = {m.parent_id: m for m in nodes}  # in order of position, so the last one is kept
    leaf = by_id.get(leaf_id or "", nodes[-1])
    above = [leaf]
    while parent := by_id.get(above[-1].parent_id or ""):
        above.append(parent)
    path = above[::-1]
    while child := newest_child.get(path[-1].id):
        path.append(child)
    return path


def siblings(messages: Sequence[Message]) -> dict[str, tuple[str, ...]]:
    """Message id -> the ids of all versions of that question or first reply, oldest first."""
    groups: dict[str | None, list[str]] = {}
    for m in _nodes(messages):
        groups.setdefault(m.parent_id, []).append(m.id)
    return {message_id: tuple(ids) for ids in groups.values() for message_id in ids}


def is_right_answer(answer: Message) -> bool:
    """Whether a revision, an edit or the reply to a correction is what the person wants to hear."""
    return answer.verdict != "still_wrong" if answer.kind == "edit" else answer.verdict == "better"


def standing_reply(messages: Sequence[Message], first_reply_id: str) -> Message | None:
    """What counts of a first reply and what came of it: edit, confirmed revision, open revision, the reply itself."""
    replies = [m for m in messages if first_reply_id in (m.id, m.revises_id)]
    first = [m for m in replies if m.kind == "message"]
    edits = [m for m in replies if m.kind == "edit" and is_right_answer(m)]
    better = [m for m in replies if m.kind == "revision" and is_right_answer(m)]
    untried = [m for m in replies if m.kind == "revision" and m.verdict is None and m.complete]
    for group in (edits, better, untried, first):
        if group:
            return group[-1]
    return None


def system_prompt(messages: Sequence[Message], before: int | None = None) -> str:
    """The newest system message, or the newest before a position; empty where there is none."""
    said = [m.text for m in messages if m.role == "system" and (before is None or m.position < before)]
    return said[-1] if said else ""


def own_system_prompt(messages: Sequence[Message]) -> str:
    """The system prompt that was set for this conversation; empty where none was."""
    said = [m.text for m in messages if m.role == "system" and m.kind == "message"]
    return said[-1] if said else ""


def prompt_up_to(messages: Sequence[Message], user_message_id: str) -> list[dict[str, str]]:
    """The prompt x: the branch up to and including one user message, each earlier question with the reply that counts.

    What came of a correction made by talking takes the place of the reply that it corrects, unless it was refused: a model
    that reads its own wrong answer gives it again.
    """
    by_id = {m.id: m for m in messages}
    asked = by_id[user_message_id]
    turns = [asked]
    corrected: dict[str, Message] = {}  # first reply -> what it became
    above = by_id.get(asked.parent_id or "")
    while above:
        if above.role == "assistant":  # an unanswered question is left out
            question = by_id.get(above.parent_id or "")
            if question is None:
                break  # an imported conversation may begin with a reply
            counts = standing_reply(messages, above.id) or above
            stands = counts.complete and above.verdict in (None, "better")
            if above.corrects_id and (stands or above.corrects_id in corrected):
                corrected.setdefault(above.corrects_id, counts)  # the newest one counts
            else:
                turns += [corrected.get(above.id, counts), question]
            above = question
        above = by_id.get(above.parent_id or "")
    prompt = [{"role": m.role, "content": m.text} for m in reversed(turns)]
    system = system_prompt(messages, before=asked.position)
    return [{"role": "system", "content": system}, *prompt] if system else prompt


def attempts(messages: Sequence[Message], first_reply_id: str) -> list[tuple[str, str]]:
    """(reply, the hint given on it) for the first reply and every revision but the last one.

    The reply is without its thought: a hint is about the answer.
    """
    chain = [m for m in messages if m.id == first_reply_id or (m.revises_id == first_reply_id and m.kind == "revision")]
    return [(answer_of(now.text), after.hint or "") for now, after in zip(chain, chain[1:], strict=False)]


def refused_replies(
    messages: Sequence[Message], path: Sequence[Message], first: Message, said: str
) -> list[tuple[str, str]]:
    """Each refused answer to the question of `first` with what the person said about it, oldest first.

    Those are the first reply, its revisions, and the replies on `path` to corrections made by talking. `said` is about the
    last of them.
    """
    by_id = {m.id: m for m in messages}
    shown = {m.id for m in path}
    later = [m for m in messages if m.kind == "revision" and m.revises_id == first.id]
    later += [m for m in messages if m.corrects_id == first.id and m.id in shown]
    later.sort(key=lambda m: m.position)
    words = [by_id[m.parent_id].text if m.corrects_id and m.parent_id else m.hint or "" for m in later]
    return [(answer_of(m.text), word) for m, word in zip([first, *later], [*words, said], strict=True)]


def open_corrections(
    messages: Sequence[Message], shown: Collection[str], disliked: Collection[str], most_tries: int
) -> dict[str, bool]:
    """The last try (or first reply) of each disliked reply without a right answer -> whether another revision is allowed.

    A reply to a correction made by talking is a try too, and does not count as a revision.

    Args:
        messages: of one conversation.
        shown: ids of the questions and first replies of the branch shown.
        disliked: ids of the messages with a thumbs-down.
        most_tries: how many revisions of one reply are allowed. None is while a try waits for a verdict.
    """
    found = {}
    for first in (m for m in messages if m.id in disliked and m.revises_id is None):
        about = [m for m in messages if m.revises_id == first.id]
        tries = [m for m in about if m.kind == "revision"]
        corrections = [m for m in messages if m.corrects_id == first.id]
        about += corrections
        later = [*tries, *(m for m in corrections if m.id in shown)]
        last = max(later, key=lambda m: m.position, default=first)
        if last.complete and not any(is_right_answer(m) for m in about):
            is_waiting = bool(later) and last.verdict is None
            found[last.id] = len(tries) < most_tries and not is_waiting
    return found
