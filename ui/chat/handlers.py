"""Handlers of the chat tab: each reads its event, calls one service and returns the view. No layout."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from feedback_store.errors import UnknownRecord
from feedback_store.records import Kind, Role
from services.views import ConversationView, MessageView
from ui.chat import messages as m
from ui.chat.boxes import box_updates
from ui.chat.conversation_list import list_html
from ui.chat.drafts import Drafts
from ui.chat.examples import invitation_html
from ui.errors import USER_ERRORS, show_errors, word
from ui.learning.comparison import comparing
from ui.long_lists import PAGE_LENGTH

if TYPE_CHECKING:
    from services.chat.chat import ChatService
    from services.learning.comparison import ComparisonService
    from ui.visitor import Visitor

SAVED, NOT_BEGUN, LEARNED, NOT_LEARNED = (
    f'<p class="keys" role="status">{words}</p>'
    for words in (
        "Saved. It applies from your next message on.",
        "It applies from the first message on, which saves it.",
        "Saved. The model may learn from this conversation.",
        "Saved. Nothing more is learned from this conversation.",
    )
)
SHOWN = 17  # outputs of `show`
SETTINGS = 5  # of them, the last: what the settings of a conversation show
FRAME_SECONDS = 0.05  # a streamed reply is redrawn at most this often
IDLE: dict[str, Any] = {"submit_btn": "Send", "stop_btn": False}
WRITING: dict[str, Any] = {"submit_btn": False, "stop_btn": "Stop"}


def coming(conversation_id: str, role: Role, text: str, kind: Kind = "message") -> MessageView:
    """A message that is about to be stored, shown at once; it has no id, so nothing can be done to it yet."""
    return MessageView("", conversation_id, role, kind, text, complete=role == "user")


def _before(messages: list[MessageView], message_id: str) -> list[MessageView]:
    """What came before a message: that is what stays when a branch begins there."""
    return messages[: next((i for i, old in enumerate(messages) if old.id == message_id), len(messages))]


class ChatHandlers:
    """What the chat tab's events do. Holds no state of a visitor: that is in the page."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor

    @property
    def chat(self) -> ChatService:
        return self.visitor.chat

    @property
    def comparison(self) -> ComparisonService:
        return self.visitor.comparison

    # -- views -------------------------------------------------------------------------------------------------------

    def _opened(self, conversation_id: str | None) -> ConversationView | None:
        """The conversation; none where it was deleted meanwhile."""
        with suppress(UnknownRecord):
            return self.chat.conversation(conversation_id) if conversation_id else None
        return None

    def _list(self, shown: str | None, search: str, count: int) -> str:
        return list_html(self.chat.conversations(search, count + 1), shown, search, count)

    def messages(self, conversation_id: str | None) -> list[MessageView]:
        return self.chat.messages(conversation_id) if conversation_id else []

    @show_errors
    def show(
        self, conversation_id: str | None, search: str, count: int, drafts: Drafts, hint: str | None, edited: str | None
    ) -> tuple[Any, ...]:
        """A whole conversation, boxes closed; an unknown id (deleted meanwhile) shows the empty page."""
        current = self._opened(conversation_id)
        shown = current.id if current else None
        sampling = self.chat.sampling(shown) if shown else self.chat.usual_sampling()
        text: dict[str, Any] = {"value": drafts.composer} if drafts.rewritten else {}
        return (
            m.chat_value(self.messages(shown), shown, invitation_html(self.visitor.model)),
            self._list(shown, search, count),
            shown,
            gr.update(**IDLE, **text),
            *box_updates(drafts.saved(hint, edited).closed().rewrote(), []),
            *(
                gr.update(value=value, interactive=True)  # until now none could be changed: this would have undone it
                for value in (
                    bool(current and not current.learn),
                    self.chat.system_prompt(shown) if shown else "",
                    sampling.temperature,
                    sampling.top_p,
                    sampling.max_new_tokens,
                )
            ),
        )

    @show_errors
    def settle(self, conversation_id: str | None, search: str, count: int) -> tuple[Any, ...]:
        """After a reply: the conversation as it is stored, its list and the Send button. Boxes stay as they are."""
        current = self._opened(conversation_id)
        shown = current.id if current else None
        return (
            m.chat_value(self.messages(shown), shown, invitation_html(self.visitor.model)),
            self._list(shown, search, count),
            shown,
            gr.update(**IDLE),
        )

    @show_errors
    def restore(
        self, conversation_id: str | None, search: str, count: int, drafts: Drafts, hint: str | None, edited: str | None
    ) -> tuple[Any, ...]:
        """As `show`, when the page was loaded. Where there is nothing to restore, only the list is drawn and what an empty
        conversation says, as the page was built with the model of the start: by now a quick visitor may have asked something.
        """
        if self._opened(conversation_id):
            return self.show(conversation_id, search, count, drafts, hint, edited)
        _, _, conversation, *rest = (gr.skip() for _ in range(SHOWN - SETTINGS))
        rest += [gr.update(interactive=True) for _ in range(SETTINGS)]
        listed = self._list(None, search, count)
        chat = {"invitation": invitation_html(self.visitor.model)}
        return chat, listed, None if conversation_id else conversation, *rest

    @show_errors
    def find(self, conversation_id: str | None, search: str, count: int) -> str:
        return self._list(conversation_id, search, count)

    @show_errors
    def show_more(self, conversation_id: str | None, search: str, count: int) -> tuple[str, int]:
        """The list with older conversations too, and how many it shows."""
        count += PAGE_LENGTH
        return self._list(conversation_id, search, count), count

    # -- conversations -----------------------------------------------------------------------------------------------

    def new(self, search: str, count: int, *boxes: Any) -> Any:
        """An empty page. The conversation itself begins with its first message, so none is ever stored empty."""
        return self.show(None, search, count, *boxes)

    @show_errors
    def open(
        self, search: str, count: int, drafts: Drafts, hint: str | None, edited: str | None, event: gr.EventData
    ) -> tuple[Any, ...]:
        return self.show(word(event, "id"), search, count, drafts, hint, edited)

    @show_errors
    def rename(self, conversation_id: str | None, search: str, count: int, event: gr.EventData) -> Any:
        self.chat.rename(word(event, "id"), word(event, "title"))
        return self.find(conversation_id, search, count)

    @show_errors
    def delete(
        self,
        conversation_id: str | None,
        search: str,
        count: int,
        drafts: Drafts,
        hint: str | None,
        edited: str | None,
        event: gr.EventData,
    ) -> Any:
        self.chat.delete(word(event, "id"))
        left = None if word(event, "id") == conversation_id else conversation_id
        return self.show(left, search, count, drafts, hint, edited)

    @show_errors
    def set_learn(self, conversation_id: str | None, no_learning: bool) -> Any:
        if not conversation_id:
            return NOT_BEGUN
        self.chat.set_learn(conversation_id, not no_learning)
        return NOT_LEARNED if no_learning else LEARNED

    @show_errors
    def set_up(
        self, conversation_id: str | None, system: str, temperature: float, top_p: float, max_new_tokens: float
    ) -> Any:
        """System prompt and sampling of the shown conversation; of one that has not begun, `send` stores them.

        Returns the line that says so, where something was changed.
        """
        chosen = {"temperature": float(temperature), "top_p": float(top_p), "max_new_tokens": int(max_new_tokens or 0)}
        before = self.chat.sampling(conversation_id) if conversation_id else self.chat.usual_sampling()
        told = self.chat.system_prompt(conversation_id) if conversation_id else ""
        sampling = replace(before, **chosen)  # type: ignore[arg-type]
        if (sampling, system.strip()) == (before, told):
            return gr.skip()
        if not conversation_id:
            return NOT_BEGUN
        self.chat.set_system_prompt(conversation_id, system)
        self.chat.set_sampling(conversation_id, sampling)
        return SAVED

    # -- what the user prefers in all conversations --------------------------------------------------------------------

    @show_errors
    def preferences(self) -> tuple[Any, Any]:
        preferences = self.visitor.feedback.preferences
        return (
            gr.update(value=preferences.learns_corrections, interactive=True),
            gr.update(value=preferences.system_prompt, interactive=True),
        )

    @show_errors
    def set_told(self, text: str | None) -> Any:
        preferences = self.visitor.feedback.preferences
        if (text or "").strip() == preferences.system_prompt:
            return gr.skip()
        preferences.set_system_prompt(text or "")
        return SAVED

    @show_errors
    def set_learn_unasked(self, value: bool) -> Any:
        self.visitor.feedback.preferences.set_learns_corrections(bool(value))
        return SAVED

    # -- replies -----------------------------------------------------------------------------------------------------

    @show_errors
    def send(
        self, text: str, conversation_id: str | None, drafts: Drafts, no_learning: bool, *settings: Any
    ) -> Iterator[Any]:
        """Stream the reply to `text` into the shown conversation, which begins here if there is none.

        While an earlier question is being changed, the text takes its place, in a branch of its own.
        """
        if not text.strip():
            yield gr.skip()
            return
        if not conversation_id:
            conversation_id = self.chat.new_conversation(learn=not no_learning).id
            self.set_up(conversation_id, *settings)
        before = self.messages(conversation_id)
        if drafts.rewritten:
            before = _before(before, drafts.rewritten)
            stream = self.chat.resend(drafts.rewritten, text)
        else:
            stream = self.chat.reply(conversation_id, text)
        both = [coming(conversation_id, "user", text), coming(conversation_id, "assistant", "")]
        start = m.chat_value([*before, *both], conversation_id)
        composer = gr.update(value=drafts.composer if drafts.rewritten else "", **WRITING)
        # left alone where it is hidden: whoever is quick may open it before this event ends
        row = gr.update(visible=False) if drafts.rewritten else gr.skip()
        yield start, composer, conversation_id, row, drafts.rewrote()
        rest = (gr.skip(),) * 4
        try:
            for shown in self.frames(stream, conversation_id):
                yield shown, *rest
        except USER_ERRORS:
            still = gr.update(visible=bool(drafts.rewritten))
            yield gr.skip(), gr.update(value=text), gr.skip(), still, drafts  # what was typed is not lost
            raise

    @show_errors
    def send_example(
        self, event: gr.EventData, conversation_id: str | None, no_learning: bool, *settings: Any
    ) -> Iterator[Any]:
        yield from self.send(word(event, "text"), conversation_id, Drafts(), no_learning, *settings)

    @show_errors
    def again(self, conversation_id: str | None, event: gr.EventData) -> Iterator[Any]:
        """Answer a question once more, in a branch of its own."""
        if not conversation_id:
            yield gr.skip()
            return
        before = _before(self.messages(conversation_id), word(event, "id"))
        start = m.chat_value([*before, coming(conversation_id, "assistant", "")], conversation_id)
        yield start, gr.update(**WRITING)
        for shown in self.frames(self.chat.regenerate(word(event, "id")), conversation_id):
            yield shown, gr.skip()

    @show_errors
    def go_on(self, conversation_id: str | None, event: gr.EventData) -> Iterator[Any]:
        """Continue a reply that was cut off; it grows in its place."""
        if not conversation_id:
            yield gr.skip()
            return
        yield gr.skip(), gr.update(**WRITING)
        for shown in self.frames(self.chat.go_on(word(event, "id")), conversation_id):
            yield shown, gr.skip()

    @show_errors
    def follow(self, conversation_id: str | None) -> Iterator[Any]:
        """Go on with a reply that was being written when the page was left or loaded again."""
        is_first = True
        if conversation_id:
            for shown in self.frames(self.chat.follow(conversation_id), conversation_id):
                yield shown, gr.update(**WRITING) if is_first else gr.skip()
                is_first = False
        messages = self.messages(conversation_id)
        if not is_first:
            yield m.chat_value(messages, conversation_id), gr.update(**IDLE)
        elif messages:  # a reply may have ended since the page was loaded, which then asks for the whole
            yield m.chat_change(messages, messages, conversation_id), gr.skip()
        else:
            yield gr.skip()

    @show_errors
    def stop(self, conversation_id: str | None) -> None:
        if conversation_id:
            self.chat.stop(conversation_id)

    def frames(self, stream: Iterator[MessageView], conversation_id: str) -> Iterator[dict[str, Any]]:
        """What the chat shows as it grows: the stored messages, one of them replaced by its streamed state."""
        stored: list[MessageView] | None = None
        first: list[MessageView] = []
        drawn_at = 0.0
        for message in stream:
            if stored is None:  # the stream's first item comes after the person's own words were stored
                stored = self.chat.messages(conversation_id)
                if m.find(stored, message.id) is None:
                    stored.append(message)
            if message.complete or time.monotonic() - drawn_at >= FRAME_SECONDS:
                drawn_at = time.monotonic()
                messages = [message if other.id == message.id else other for other in stored]
                yield m.chat_change(first, messages, conversation_id)
                first = first or messages  # each later frame is a change of the first: one may be lost on the way

    @show_errors
    def branch(self, conversation_id: str | None, event: gr.EventData) -> Any:
        """Show another version of a question or reply, and what followed it."""
        self.chat.choose(word(event, "id"))
        return m.chat_value(self.messages(conversation_id), conversation_id)

    @show_errors
    def rewrite(self, conversation_id: str | None, text: str | None, drafts: Drafts, event: gr.EventData) -> Any:
        """Put an earlier question into the composer; sending it makes a branch."""
        question = m.find(self.messages(conversation_id), word(event, "id"))
        if question is None:
            return gr.skip()
        return gr.update(value=question.text), gr.update(visible=True), drafts.rewriting(question.id, text or "")

    def leave_question(self, drafts: Drafts) -> Any:
        """Leave the earlier question as it is: the composer holds again what it held before."""
        return gr.update(value=drafts.composer), gr.update(visible=False), drafts.rewrote()

    @show_errors
    def whole(self, conversation_id: str | None) -> Any:
        """For a page that does not show what the last change builds on."""
        return m.chat_value(self.messages(conversation_id), conversation_id, invitation_html(self.visitor.model))

    @show_errors
    def compare(self, conversation_id: str | None, event: gr.EventData) -> Iterator[Any]:
        """The question of a reply, answered by the base model and by what serves now."""
        prompt = self.chat.prompt_of(word(event, "id"))
        live = self.comparison.serving_version()
        yield from comparing(self.comparison, prompt, [0, live] if live else [0], of=conversation_id or "")
