"""Handlers of the chat tab: each reads its event, calls one service and returns the view. No layout."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from services.views import MessageView
from ui import messages as m
from ui.edge import USER_ERRORS, at_the_edge

if TYPE_CHECKING:
    from services.workbench import Workbench

FRAME_SECONDS = 0.05  # a streamed reply is redrawn at most this often
TITLE_LENGTH = 48


def _coming(conversation_id: str, role: str, text: str, kind: str = "message") -> MessageView:
    """A message that is about to be stored, shown at once; it has no id, so nothing can be done to it yet."""
    return MessageView("", conversation_id, role, kind, text, complete=role == "user")


class ChatHandlers:
    """What the chat tab's events do. Holds no state of a visitor: that is in the page."""

    def __init__(self, workbench: Workbench) -> None:
        self.chat = workbench.chat
        self.feedback = workbench.feedback

    # -- views -------------------------------------------------------------------------------------------------------

    def _messages(self, conversation_id: str | None) -> list[MessageView]:
        return self.chat.messages(conversation_id) if conversation_id else []

    @staticmethod
    def _chat_update(messages: Sequence[MessageView]) -> Any:
        return gr.update(value=m.chat_value(messages), feedback_value=m.feedback_value(messages))

    @at_the_edge
    def show(self, conversation_id: str | None) -> tuple[Any, ...]:
        """A whole conversation, boxes closed; an unknown id (deleted meanwhile) shows the empty page."""
        conversations = self.chat.conversations()
        current = next((c for c in conversations if c.id == conversation_id), None)
        shown = current.id if current else None
        titles = [(c.title[:TITLE_LENGTH] or "New conversation", c.id) for c in conversations]
        return (
            self._chat_update(self._messages(shown)),
            gr.update(choices=titles, value=shown),
            gr.update(value=bool(current and not current.learn)),
            gr.update(visible=current is not None),
            shown,
            gr.update(submit_btn="Send", stop_btn=False),
            gr.update(visible=True),
            gr.update(visible=False),
            gr.update(visible=False),
            None,
        )

    # -- conversations -----------------------------------------------------------------------------------------------

    def new(self) -> Any:
        """An empty page. The conversation itself begins with its first message, so none is ever stored empty."""
        return self.show(None)

    @at_the_edge
    def delete(self, conversation_id: str | None) -> Any:
        if not conversation_id:  # the person said no
            return gr.skip()
        self.chat.delete(conversation_id)
        return self.show(None)

    @at_the_edge
    def set_learn(self, conversation_id: str | None, no_learning: bool) -> Any:
        if conversation_id:
            self.chat.set_learn(conversation_id, not no_learning)
        return gr.skip()

    # -- replies -----------------------------------------------------------------------------------------------------

    @at_the_edge
    def send(self, text: str, conversation_id: str | None, no_learning: bool) -> Iterator[Any]:
        """Stream the reply to `text` into the shown conversation, which begins here if there is none."""
        if not text.strip():
            yield gr.skip()
            return
        if not conversation_id:
            conversation_id = self.chat.new_conversation(learn=not no_learning).id
        busy = gr.update(value="", submit_btn=False, stop_btn="Stop")
        coming = [_coming(conversation_id, "user", text), _coming(conversation_id, "assistant", "")]
        yield self._chat_update([*self._messages(conversation_id), *coming]), busy, conversation_id
        try:
            for messages in self._frames(self.chat.reply(conversation_id, text), conversation_id):
                yield self._chat_update(messages), gr.skip(), gr.skip()
        except USER_ERRORS:
            yield gr.skip(), gr.update(value=text), gr.skip()  # what was typed is not lost
            raise

    def send_example(self, conversation_id: str | None, no_learning: bool, event: gr.SelectData) -> Iterator[Any]:
        yield from self.send(event.value["text"], conversation_id, no_learning)

    def stop(self, conversation_id: str | None) -> None:
        if conversation_id:
            self.chat.stop(conversation_id)

    def _frames(self, stream: Iterator[MessageView], conversation_id: str) -> Iterator[list[MessageView]]:
        """The conversation as it grows: the stored messages, the last one replaced by its streamed state."""
        earlier: list[MessageView] | None = None
        drawn_at = 0.0
        for message in stream:
            if earlier is None:  # the stream's first item comes after the person's own words were stored
                earlier = [other for other in self.chat.messages(conversation_id) if other.id != message.id]
            if message.complete or time.monotonic() - drawn_at >= FRAME_SECONDS:
                drawn_at = time.monotonic()
                yield [*earlier, message]

    # -- feedback ----------------------------------------------------------------------------------------------------

    def _panels(self, conversation_id: str | None, complain_about: str | None) -> tuple[Any, ...]:
        """The conversation with its votes; the hint box is open exactly if there is a reply to complain about."""
        messages = self._messages(conversation_id)
        target = m.find(messages, complain_about)
        is_open = target is not None
        return (
            self._chat_update(messages),
            gr.update(visible=not is_open),
            gr.update(visible=is_open),
            gr.update(visible=False),
            m.quote(target.text) if target else "",
            gr.update(value="", autofocus=True),
            complain_about if is_open else None,
        )

    @at_the_edge
    def vote(self, shown: list[dict[str, Any]], conversation_id: str | None, event: gr.LikeData) -> Any:
        """Thumbs up, down, or taken back (`liked == ""`). Under a revision they mean Better and Still wrong."""
        message_id = m.message_id_at(shown, event.index)
        if not message_id:
            return gr.skip()
        message = m.find(self._messages(conversation_id), message_id)
        if message is None or message.kind == "edit":  # deleted meanwhile; or the person's own words
            return self._panels(conversation_id, None)
        if event.liked is True or event.liked is False:
            if message.kind == "revision":
                return self._verdict(conversation_id, message_id, m.BETTER if event.liked else m.STILL_WRONG)
            (self.feedback.like if event.liked else self.feedback.dislike)(message_id)
            return self._panels(conversation_id, None if event.liked else message_id)
        self.feedback.clear_vote(message_id)
        return self._panels(conversation_id, None)

    @at_the_edge
    def judge(self, conversation_id: str | None, event: gr.SelectData) -> Any:
        """One of the two buttons under a revision."""
        verdict, message_id = m.read_option(event.value)
        return self._verdict(conversation_id, message_id, verdict)

    def _verdict(self, conversation_id: str | None, message_id: str, verdict: str) -> Any:
        if verdict == m.BETTER:
            self.feedback.better(message_id)
            return self._panels(conversation_id, None)
        more_allowed = self.feedback.still_wrong(message_id)
        if not more_allowed:
            gr.Info(
                "That was the last try. Under the first reply you can still write the answer yourself.", title="Noted"
            )
        return self._panels(conversation_id, message_id if more_allowed else None)

    @at_the_edge
    def revise(self, message_id: str | None, hint: str, conversation_id: str | None) -> Iterator[Any]:
        """Stream a revision of the reply that the hint box is about."""
        if not message_id or not conversation_id:
            gr.Info("Press thumbs-down under the reply again.")
            yield gr.skip()
            return
        rest: tuple[Any, ...] = (
            gr.update(submit_btn=False, stop_btn="Stop"),
            gr.update(visible=True),
            gr.update(visible=False),
            gr.update(value=""),
        )
        coming = _coming(conversation_id, "assistant", "", kind="revision")
        yield self._chat_update([*self._messages(conversation_id), coming]), *rest
        rest = (gr.skip(),) * len(rest)
        for messages in self._frames(self.chat.revise(message_id, hint.strip()), conversation_id):
            yield self._chat_update(messages), *rest

    @at_the_edge
    def open_edit(self, message_id: str | None, conversation_id: str | None) -> Any:
        target = m.find(self._messages(conversation_id), message_id)
        if target is None:
            return gr.skip()
        return gr.update(visible=False), gr.update(visible=True), target.text

    @at_the_edge
    def save_edit(self, message_id: str | None, text: str, conversation_id: str | None) -> Any:
        if not message_id or not text.strip():
            gr.Info("Write the answer you wanted first.")
            return gr.skip()
        self.feedback.edit(message_id, text.strip())
        return self.show(conversation_id)
