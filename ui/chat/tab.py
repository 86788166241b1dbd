"""The Chat tab: its layout, and which event calls which handler. The handlers are in handlers.py."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from ui.chat.boxes import FOCUS_JS, Boxes
from ui.chat.examples import invitation_html
from ui.chat.feedback import FeedbackHandlers
from ui.chat.handlers import ChatHandlers
from ui.chat.messages import chat_value
from ui.chat.model_picker import ModelPicker
from ui.chat.status_card import StatusCard
from ui.events import QUIET
from ui.long_lists import PAGE_LENGTH
from ui.theme.assets import script

if TYPE_CHECKING:
    from ui.visitor import Visitor

# Queued all the same: an event outside the queue cannot show a warning.
FAST: dict[str, Any] = {**QUIET, "concurrency_id": "quick", "concurrency_limit": 16}
SLOW: dict[str, Any] = {**QUIET, "concurrency_id": "generation", "concurrency_limit": 8}
KEYS = (
    "Keys: Enter sends, Shift+Enter begins a new line, Escape stops a reply or closes a box, / goes to the message, Arrow up "
    "changes your last message, Ctrl+Shift+O begins a new conversation."
)
EMPTIED = "() => ''"  # the browser empties the line that says what was saved
LEARN_UNASKED = "Learn corrections that I make in the chat without asking"
# assets/chat.js knows which conversation is shown
EXPORT = (
    '<p class="keys export">Download this conversation: <button type="button" class="link" data-export="markdown">Markdown'
    '</button> · <button type="button" class="link" data-export="json">JSON</button></p>'
)
COMPARE_DIALOG = """
<dialog aria-labelledby="compare-title"><header><h3 id="compare-title">With and without what was learned</h3>
<button type="button" class="tool" data-do="close" aria-label="Close">×</button></header>
<div class="compared" aria-live="polite"></div></dialog>
"""
COMPARE_JS = """
const dialog = element.querySelector('dialog');
let left = '';  // the comparison whose box was closed before its answers came; they would open it again
dialog.addEventListener('click', (event) => {
    if (event.target === dialog || event.target.closest('[data-do=close]')) dialog.close();
});
dialog.addEventListener('close', () => {  // Escape too
    if (!props.value?.asking) return;
    left = props.value.run;
    trigger('leave', {});
});
// The words are put in by hand: a redrawn template would close the dialog.
watch('value', () => {
    if (!props.value?.html || props.value.of !== document.body.dataset.conversation) return;  // another one is shown by now
    if (props.value.run === left) return;
    dialog.querySelector('.compared').innerHTML = props.value.html;
    if (!dialog.open) dialog.showModal();
});
"""


class ChatTab:
    """Builds the tab inside an open Blocks. The shown conversation's id lives in the browser: a reload finds it."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor
        self.do = ChatHandlers(visitor)
        self.said = FeedbackHandlers(visitor, self.do)
        self.boxes = Boxes()
        self.status_card = StatusCard(visitor)
        self.picker = ModelPicker(visitor)

    def build(self) -> None:
        # A fixed secret: the id of a conversation is no secret, and a random one would not outlive the process.
        self.conversation = gr.BrowserState(None, storage_key="spear-conversation", secret="spear-conversation")
        with gr.Row(elem_id="columns"):
            with gr.Column(elem_id="side", scale=0, min_width=220):
                self._side()
            with gr.Column(elem_id="main", scale=1, min_width=300):
                self._chat()
                self.boxes.build()
                self._composer()
            with gr.Column(elem_id="aside", scale=0, min_width=300):
                self.status_card.build()
        self.compared = gr.HTML(
            {}, elem_id="compare-dialog", html_template=COMPARE_DIALOG, js_on_load=COMPARE_JS, apply_default_css=False
        )

    def _side(self) -> None:
        self.new = gr.Button("New conversation", elem_id="new-conversation", variant="secondary", size="md")
        self.search = gr.Textbox(
            value="",
            placeholder="Search conversations",
            label="Search conversations",
            show_label=False,
            container=False,
            elem_id="search",
            max_lines=1,
        )
        self.listed = gr.State(PAGE_LENGTH)  # how many conversations the list shows at most
        self.list = gr.HTML(elem_id="conversations", js_on_load=script("conversations"), apply_default_css=False)

    def _chat(self) -> None:
        self.picker.build()
        self.chat = gr.HTML(
            chat_value([], invitation=invitation_html(self.visitor.model)),
            elem_id="chat",
            html_template='<div class="log" role="log" aria-label="Conversation" tabindex="0" hidden></div>'
            '<div class="nothing-said"></div>',
            js_on_load=script("chat"),
            apply_default_css=False,
        )

    def _composer(self) -> None:
        with gr.Column(elem_id="composer") as self.composer:
            with gr.Row(visible=False, elem_id="rewriting") as self.rewriting:
                gr.HTML(
                    "<p>You are changing an earlier message. Sending it starts a new version of the conversation; the old one is kept.</p>"
                )
                self.keep = gr.Button("Cancel", size="sm", elem_id="cancel-rewriting")
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
            with gr.Accordion("Settings", open=False, elem_id="settings"):
                self._settings()
                self._preferences()

    def _settings(self) -> None:
        """Of the conversation that is shown. What is stored arrives with it, and would undo a change made before."""
        usual = self.visitor.chat.usual_sampling()
        self.no_learning = gr.Checkbox(
            label="Don't learn from this chat", container=False, interactive=False, elem_id="no-learning"
        )
        self.system = gr.Textbox(
            label="System prompt of this conversation: what the model is told before everything else",
            value="",
            placeholder="For example: answer in one short sentence.",
            lines=1,
            max_lines=6,
            interactive=False,
            elem_id="system-prompt",
        )
        with gr.Row(elem_id="sampling"):
            shown: dict[str, Any] = {"min_width": 160, "interactive": False}
            self.temperature = gr.Slider(
                0, 2, usual.temperature, step=0.05, label="Temperature (0: most likely words)", **shown
            )
            self.top_p = gr.Slider(0.05, 1, usual.top_p, step=0.05, label="Top-p", **shown)
            self.longest = gr.Number(
                usual.max_new_tokens,
                precision=0,
                minimum=0,
                label="Longest reply in tokens (0: the model's default)",
                interactive=False,
            )
        self.saved_here = gr.HTML(elem_id="saved-here", elem_classes="saved", apply_default_css=False)
        gr.HTML(EXPORT)

    def _preferences(self) -> None:
        """Of the user, in all conversations."""
        gr.HTML("<h4>All your conversations</h4>")
        self.told = gr.Textbox(
            label="System prompt of all conversations that have none of their own",
            value="",
            lines=1,
            max_lines=6,
            interactive=False,  # until what is stored has arrived, which would undo a change
            elem_id="common-system-prompt",
        )
        self.learn_unasked = gr.Checkbox(
            label=LEARN_UNASKED, container=False, interactive=False, elem_id="learn-unasked"
        )
        self.saved_everywhere = gr.HTML(elem_id="saved-everywhere", elem_classes="saved", apply_default_css=False)
        gr.HTML(f'<p class="keys">{escape(KEYS)}</p>')

    def wire(self, page: gr.Blocks) -> None:
        self.status_card.wire(page)
        self.settings = [self.system, self.temperature, self.top_p, self.longest]
        self.box_parts = self.boxes.outputs(self.composer, self.rewriting)
        # Everything that shows a whole conversation returns these, in this order (ChatHandlers.show).
        self.everything = [self.chat, self.list, self.conversation, self.text, *self.box_parts, self.no_learning]
        self.everything += self.settings
        streams = self._wire_replies(page)
        self._wire_conversations(streams)
        self._wire_feedback()
        self._wire_preferences(page)
        self.picker.wire(page)

    def refresh_after(self, event: Any) -> None:
        """Draw the conversation and the card again after an event of another tab."""
        event.then(self.do.whole, [self.conversation], [self.chat], **FAST)
        event.then(self.status_card.redraw, None, self.status_card.outputs, **FAST)

    def _wire_replies(self, page: gr.Blocks) -> list[Any]:
        """Returns the events that draw a conversation for a while: those that stream a reply, and the page's first."""
        do, boxes = self.do, self.boxes
        here = [self.conversation, self.search, self.listed]
        stream = [self.chat, self.text, self.conversation, self.rewriting, boxes.drafts]
        asking = [self.conversation, boxes.drafts, self.no_learning, *self.settings]
        sent = self.text.submit(do.send, [self.text, *asking], stream, **SLOW)
        example = [self.conversation, self.no_learning, *self.settings]
        asked = self.chat.example(do.send_example, example, stream, **SLOW)
        again = self.chat.again(do.again, [self.conversation], [self.chat, self.text], **SLOW)
        further = self.chat.go_on(do.go_on, [self.conversation], [self.chat, self.text], **SLOW)
        complaint = [self.conversation, *boxes.typed]
        revising = [self.chat, self.text, *self.box_parts]
        complained = (boxes.revise.click, boxes.hint.submit)
        revised = [event(self.said.revise, complaint, revising, **SLOW) for event in complained]
        streams: list[Any] = [sent, asked, again, further, *revised]
        for finished in streams:
            finished.then(do.settle, here, [self.chat, self.list, self.conversation, self.text], **FAST)
        self.text.stop(do.stop, [self.conversation], None, **FAST)
        loaded = page.load(do.restore, [*here, *boxes.typed], self.everything, **FAST)
        followed = loaded.then(do.follow, [self.conversation], [self.chat, self.text], **SLOW)
        return [*streams, loaded, followed]

    def _wire_conversations(self, streams: list[Any]) -> None:
        do, typed = self.do, self.boxes.typed
        here = [self.conversation, self.search, self.listed]
        compared = self.chat.compare(do.compare, [self.conversation], [self.compared], **SLOW)
        self.compared.leave(None, cancels=[compared])
        streams = [*streams, compared]
        # What draws one conversation must not draw over the next; the reply itself is written to its end.
        self.new.click(do.new, [self.search, self.listed, *typed], self.everything, cancels=streams, **FAST)
        for event in (self.list.open, self.status_card.card.open):  # from the list, or from the card's proof
            opened = event(do.open, [self.search, self.listed, *typed], self.everything, cancels=streams, **FAST)
            opened.then(do.follow, [self.conversation], [self.chat, self.text], **SLOW)
        self.list.remove(do.delete, [*here, *typed], self.everything, cancels=streams, **FAST)
        self.list.rename(do.rename, here, [self.list], **FAST)
        self.search.change(do.find, here, [self.list], **FAST)
        self.list.more(do.show_more, here, [self.list, self.listed], **FAST)
        self.no_learning.input(do.set_learn, [self.conversation, self.no_learning], [self.saved_here], **FAST)
        changed = [self.system.blur, self.temperature.release, self.top_p.release, self.longest.blur]
        for change in changed:
            change(do.set_up, [self.conversation, *self.settings], [self.saved_here], **FAST)
        begun = [self.system.change, self.temperature.input, self.top_p.input, self.longest.input]
        for event in (self.conversation.change, *begun):
            event(None, js=EMPTIED, outputs=[self.saved_here])
        self.chat.whole(do.whole, [self.conversation], [self.chat], **FAST)
        self.chat.branch(do.branch, [self.conversation], [self.chat], **FAST)
        rewriting = [self.text, self.rewriting, self.boxes.drafts]
        rewrite = self.chat.rewrite(do.rewrite, [self.conversation, self.text, self.boxes.drafts], rewriting, **FAST)
        for finished in (rewrite, self.keep.click(do.leave_question, [self.boxes.drafts], rewriting, **FAST)):
            finished.then(None, js="() => document.querySelector('#message textarea').focus()")

    def _wire_feedback(self) -> None:
        said, boxes = self.said, self.boxes
        about = [self.conversation, *boxes.typed]
        panels = [self.chat, *self.box_parts]
        # Votes are taken one after the other and none is dropped: a second click means the opposite of the first.
        votes: dict[str, Any] = {**QUIET, "concurrency_id": "votes", "concurrency_limit": 1, "trigger_mode": "multiple"}
        voted = self.chat.vote(said.vote, about, panels, **votes)
        judged = self.chat.judge(said.judge, about, panels, **votes)
        learned = self.chat.learn(said.learn, about, panels, **votes)
        more = self.chat.more(said.more, about, panels, **votes)
        written = boxes.write.click(said.write, about, self.box_parts, **FAST)
        for opened in (voted, judged, more, written):
            opened.then(None, js=FOCUS_JS)
        for close in (boxes.not_now, boxes.cancel):
            close.click(said.close, boxes.typed, self.box_parts, **FAST)
        saved = boxes.save.click(said.save_edit, about, panels, **FAST)
        for answered in (voted, judged, learned, saved):  # the card answers at once, not at its next tick
            answered.then(self.status_card.redraw, None, self.status_card.outputs, **FAST)

    def _wire_preferences(self, page: gr.Blocks) -> None:
        page.load(self.do.preferences, None, [self.learn_unasked, self.told], **FAST)
        saved = [self.saved_everywhere]
        self.told.change(None, js=EMPTIED, outputs=saved)
        self.told.blur(self.do.set_told, [self.told], saved, **FAST)
        self.learn_unasked.input(self.do.set_learn_unasked, [self.learn_unasked], saved, **FAST)
