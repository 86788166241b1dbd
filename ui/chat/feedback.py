"""Handlers of votes, verdicts, hints and answers of the person's own. Each calls one service and returns the view."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from services.views import MessageView
from spear_core.errors import SpearError
from ui.chat import messages as m
from ui.chat.boxes import EDIT_LABEL, LAST_TRY_LABEL, box_updates
from ui.chat.drafts import EDIT, HINT, Drafts
from ui.chat.handlers import WRITING, ChatHandlers, coming
from ui.errors import UNREADABLE, USER_ERRORS, number, show_errors, word

if TYPE_CHECKING:
    from services.chat.chat import ChatService
    from services.chat.feedback import FeedbackService
    from ui.visitor import Visitor

BOXES = 8  # outputs of `box_updates`


class FeedbackHandlers:
    """What the thumbs, the verdict buttons and the two boxes do. `talk` streams and shows conversations."""

    def __init__(self, visitor: Visitor, talk: ChatHandlers) -> None:
        self.visitor = visitor
        self.talk = talk

    @property
    def chat(self) -> ChatService:
        return self.visitor.chat

    @property
    def feedback(self) -> FeedbackService:
        return self.visitor.feedback

    @show_errors
    def vote(
        self, conversation_id: str | None, drafts: Drafts, hint: str | None, edited: str | None, event: gr.EventData
    ) -> Any:
        """Thumbs up, down, or taken back (0). Under a revision they mean Better and Still wrong."""
        value = number(event, "value")
        before, drafts = self.talk.messages(conversation_id), drafts.saved(hint, edited)
        message = m.find(before, word(event, "id"))
        if message is None or message.kind == "edit":  # deleted meanwhile; or the person's own words
            return self._panels(conversation_id, [], drafts)
        if value == 0:
            self.feedback.clear_vote(message.id)
        elif value > 0:
            self.feedback.like(message.id)
        else:
            self.feedback.dislike(message.id)
            return self._ask_more(conversation_id, before, drafts, message.id)
        return self._panels(conversation_id, before, self._without(drafts, before, message))

    @show_errors
    def judge(
        self, conversation_id: str | None, drafts: Drafts, hint: str | None, edited: str | None, event: gr.EventData
    ) -> Any:
        """One of the two buttons under a revision."""
        before, drafts = self.talk.messages(conversation_id), drafts.saved(hint, edited)
        message_id, verdict = word(event, "id"), word(event, "value")
        if verdict == m.STILL_WRONG:
            self.feedback.still_wrong(message_id)
            return self._ask_more(conversation_id, before, drafts, message_id)
        if verdict != m.BETTER:
            raise SpearError(UNREADABLE)
        self.feedback.better(message_id)
        judged = m.find(before, message_id)
        return self._panels(conversation_id, before, self._without(drafts, before, judged) if judged else drafts)

    @show_errors
    def learn(
        self, conversation_id: str | None, drafts: Drafts, hint: str | None, edited: str | None, event: gr.EventData
    ) -> Any:
        """The answer to "Learn this?" under the reply to a correction."""
        before, drafts = self.talk.messages(conversation_id), drafts.saved(hint, edited)
        message_id, answer = word(event, "id"), word(event, "value")
        if answer not in (m.YES, m.NO):
            raise SpearError(UNREADABLE)
        (self.feedback.better if answer == m.YES else self.feedback.decline)(message_id)
        return self._panels(conversation_id, before, drafts)

    @show_errors
    def more(
        self, conversation_id: str | None, drafts: Drafts, hint: str | None, edited: str | None, event: gr.EventData
    ) -> Any:
        """The buttons under a wrong reply: a hint (`hint`) or the right answer (`write`) about it."""
        before, drafts = self.talk.messages(conversation_id), drafts.saved(hint, edited)
        message = m.find(before, word(event, "id"))
        if message is None:
            return self._panels(conversation_id, [], drafts)
        if word(event, "value") == HINT:
            return self._ask_more(conversation_id, before, drafts, message.id)
        return self._panels(conversation_id, before, drafts.opened(EDIT, message.id))

    @show_errors
    def write(self, conversation_id: str | None, drafts: Drafts, hint: str | None, edited: str | None) -> Any:
        """From the hint box to the edit box."""
        drafts = drafts.saved(hint, edited)
        if not drafts.target:
            return gr.skip()
        return box_updates(drafts.opened(EDIT, drafts.target), self.talk.messages(conversation_id))

    def close(self, drafts: Drafts, hint: str | None, edited: str | None) -> Any:
        """Not now, Cancel, Escape. What was typed is there when the box is opened again."""
        return box_updates(drafts.saved(hint, edited).closed(), [])

    @show_errors
    def revise(
        self, conversation_id: str | None, drafts: Drafts, hint: str | None, edited: str | None
    ) -> Iterator[Any]:
        """Stream a revision of the reply that the hint box is about. Where it cannot be had, the hint stays."""
        drafts = drafts.saved(hint, edited)
        if not drafts.target or not conversation_id:
            gr.Info("Press thumbs-down under the reply again.")
            yield gr.skip()
            return
        before = self.talk.messages(conversation_id)
        start = m.chat_value([*before, coming(conversation_id, "assistant", "", kind="revision")], conversation_id)
        yield start, gr.update(**WRITING), *box_updates(drafts.sent(HINT, drafts.target), [])
        try:
            for shown in self.talk.frames(self.chat.revise(drafts.target, (hint or "").strip()), conversation_id):
                yield shown, gr.skip(), *(gr.skip(),) * BOXES
        except USER_ERRORS:
            yield gr.skip(), gr.skip(), *box_updates(drafts.reopened(), before)
            raise

    @show_errors
    def save_edit(self, conversation_id: str | None, drafts: Drafts, hint: str | None, edited: str | None) -> Any:
        """Take the person's own words as the right answer."""
        if drafts.box != EDIT or not (edited or "").strip():
            gr.Info("Write the right answer first.")
            return gr.skip()
        before = self.talk.messages(conversation_id)
        self.feedback.edit(drafts.target, str(edited).strip())
        return self._panels(conversation_id, before, drafts.sent(EDIT, drafts.target))

    # -- views -------------------------------------------------------------------------------------------------------

    def _panels(
        self, conversation_id: str | None, before: list[MessageView], drafts: Drafts, label: str = EDIT_LABEL
    ) -> tuple[Any, ...]:
        """What changed in the conversation, and the boxes."""
        messages = self.talk.messages(conversation_id)
        return m.chat_change(before, messages, conversation_id), *box_updates(drafts, messages, label)

    def _ask_more(
        self, conversation_id: str | None, before: list[MessageView], drafts: Drafts, message_id: str
    ) -> tuple[Any, ...]:
        """After "this is wrong": ask for a hint, or, where the model has used its tries, for the right answer."""
        if self.feedback.tries_left(message_id):
            return self._panels(conversation_id, before, drafts.opened(HINT, message_id))
        root = _root(before, message_id)
        last = [message.id for message in before if _root(before, message.id) == root and message.kind != "edit"][-1]
        return self._panels(conversation_id, before, drafts.opened(EDIT, last), LAST_TRY_LABEL)

    @staticmethod
    def _without(drafts: Drafts, messages: list[MessageView], judged: MessageView) -> Drafts:
        """The box closes where it is about the reply that was judged."""
        same = drafts.target and _root(messages, drafts.target) == _root(messages, judged.id)
        return drafts.closed() if same else drafts


def _root(messages: list[MessageView], message_id: str) -> str:
    """The first reply that a message is, revises, or corrects as the person said in the chat."""
    found = m.find(messages, message_id)
    return (found.corrects or found.revises if found else None) or message_id
