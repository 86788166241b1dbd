"""The chat tab: what stands where, and which event calls which handler. The handlers are in chat_handlers.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from ui.chat_handlers import ChatHandlers
from ui.examples import example_questions, invitation
from ui.status_card import StatusCard

if TYPE_CHECKING:
    from services.workbench import Workbench

# Asked in the browser, so that a click that was a slip never reaches the services.
CONFIRM_DELETE = "(id) => (id && confirm('Delete this conversation?')) ? id : null"
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class ChatTab:
    """Builds the tab inside an open Blocks. The shown conversation's id lives in the browser: a reload finds it."""

    def __init__(self, workbench: Workbench) -> None:
        self.model = workbench.model
        self.do = ChatHandlers(workbench)
        self.status_card = StatusCard(workbench)

    def build(self, page: gr.Blocks) -> None:
        # A fixed secret: the id of a conversation is no secret, and a random one would not outlive the process.
        self.conversation = gr.BrowserState(None, storage_key="spear-conversation", secret="spear-conversation")
        self.target = gr.State(None)  # id of the reply that the hint box or the edit box is about
        with gr.Row(elem_id="columns"):
            with gr.Column(elem_id="side", scale=0, min_width=220):
                self._side()
            with gr.Column(elem_id="main", scale=1, min_width=300):
                self._chat()
                self._hint_box()
                self._edit_box()
                self._composer()
            with gr.Column(elem_id="aside", scale=0, min_width=300):
                self.status_card.build()
        self._wire(page)
        self.status_card.wire(page)

    def _side(self) -> None:
        self.new = gr.Button("New conversation", elem_id="new-conversation", variant="secondary", size="md")
        self.list = gr.Radio(
            [], label="Conversations", show_label=False, container=False, elem_id="conversations", interactive=True
        )

    def _chat(self) -> None:
        self.chat = gr.Chatbot(
            elem_id="chat",
            show_label=False,
            container=False,
            layout="bubble",
            height="100%",
            group_consecutive_messages=False,
            buttons=[],
            allow_tags=False,
            placeholder=f"## What would you like to know?\n{invitation(self.model)}",
            examples=[{"text": example} for example in example_questions(self.model)],
        )

    def _hint_box(self) -> None:
        with gr.Column(visible=False, elem_id="hint-box") as self.hint_box:
            self.hint_quote = gr.HTML(elem_id="hint-quote")
            self.hint = gr.Textbox(
                label="What should change? A few words are enough.",
                placeholder="For example: it starts with t. You may also leave this empty.",
                lines=1,
                max_lines=4,
                autofocus=True,
                elem_id="hint",
            )
            with gr.Row(elem_classes="panel-buttons"):
                self.revise = gr.Button("Revise", variant="primary", size="sm", elem_id="revise")
                self.write = gr.Button("Write it myself", size="sm", elem_id="write-it")
                self.not_now = gr.Button("Not now", size="sm", elem_id="not-now", variant="secondary")

    def _edit_box(self) -> None:
        with gr.Column(visible=False, elem_id="edit-box") as self.edit_box:
            self.edited = gr.Textbox(
                label="Change the reply into what you wanted.",
                lines=2,
                max_lines=12,
                autofocus=True,
                elem_id="edited",
            )
            with gr.Row(elem_classes="panel-buttons"):
                self.save = gr.Button("Use my wording", variant="primary", size="sm", elem_id="save-edit")
                self.cancel = gr.Button("Cancel", size="sm", elem_id="cancel-edit")

    def _composer(self) -> None:
        with gr.Column(elem_id="composer") as self.composer:
            self.text = gr.Textbox(
                placeholder="Ask something",
                show_label=False,
                label="Your message",
                container=False,
                lines=1,
                max_lines=8,
                autofocus=True,
                submit_btn="Send",
                elem_id="message",
            )
            with gr.Row(elem_id="composer-row"):
                self.no_learning = gr.Checkbox(
                    label="Don't learn from this chat", container=False, elem_id="no-learning", min_width=200
                )
                self.delete = gr.Button("Delete conversation", size="sm", elem_id="delete", min_width=80, visible=False)

    def _wire(self, page: gr.Blocks) -> None:
        do = self.do
        # Everything that shows a whole conversation returns these, in this order (ChatHandlers.show).
        everything = [self.chat, self.list, self.no_learning, self.delete, self.conversation]
        everything += [self.text, self.composer, self.hint_box, self.edit_box, self.target]
        stream = [self.chat, self.text, self.conversation]
        panels = [self.chat, self.composer, self.hint_box, self.edit_box, self.hint_quote, self.hint, self.target]
        # Queued all the same: an event outside the queue cannot show a warning.
        fast: dict[str, Any] = {**QUIET, "concurrency_id": "quick", "concurrency_limit": 16}
        slow: dict[str, Any] = {**QUIET, "concurrency_id": "generation", "concurrency_limit": 8}

        sent = self.text.submit(do.send, [self.text, self.conversation, self.no_learning], stream, **slow)
        asked = self.chat.example_select(do.send_example, [self.conversation, self.no_learning], stream, **slow)
        revising = [self.chat, self.text, self.composer, self.hint_box, self.hint]
        complaint = [self.target, self.hint, self.conversation]
        revised = [event(do.revise, complaint, revising, **slow) for event in (self.revise.click, self.hint.submit)]
        streams: list[Any] = [sent, asked, *revised]
        for finished in streams:
            finished.then(do.show, [self.conversation], everything, **fast)
        self.text.stop(do.stop, [self.conversation], None, **fast)

        page.load(do.show, [self.conversation], everything, **fast)
        # Leaving a conversation ends the stream that would draw over the next one; what was said so far is kept.
        self.new.click(do.new, None, everything, cancels=streams, **fast)
        self.list.input(do.show, [self.list], everything, cancels=streams, **fast)
        self.delete.click(do.delete, [self.conversation], everything, js=CONFIRM_DELETE, **fast)
        self.no_learning.input(do.set_learn, [self.conversation, self.no_learning], [self.no_learning], **fast)

        # Votes are taken one after the other and none is dropped: a second click means the opposite of the first.
        votes: dict[str, Any] = {**QUIET, "concurrency_id": "votes", "concurrency_limit": 1, "trigger_mode": "multiple"}
        voted = self.chat.like(do.vote, [self.chat, self.conversation], panels, **votes)
        judged = self.chat.option_select(do.judge, [self.conversation], panels, **votes)
        for close in (self.not_now, self.cancel):
            close.click(do.show, [self.conversation], everything, **fast)
        editing = [self.hint_box, self.edit_box, self.edited]
        self.write.click(do.open_edit, [self.target, self.conversation], editing, **fast)
        saved = self.save.click(do.save_edit, [self.target, self.edited, self.conversation], everything, **fast)
        for said in (voted, judged, saved):  # the card answers at once, not at its next tick
            said.then(self.status_card.redraw, None, self.status_card.outputs, **fast)
