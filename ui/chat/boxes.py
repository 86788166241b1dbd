"""The boxes under the conversation, which take the composer's place: one for a hint, one for an answer of the person's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from services.views import MessageView
from ui.chat import messages as m
from ui.chat.drafts import EDIT, HINT, Drafts

EDIT_LABEL = "Change the reply into the right answer."
LAST_TRY_LABEL = "The model has used all its tries. Change its last reply into the right answer."
# The box that was opened gets the cursor once it is drawn; where none was, nothing happens.
FOCUS_JS = """() => {
    const focus = (tries) => {
        const field = [...document.querySelectorAll('#hint textarea, #edited textarea')].find((f) => f.offsetParent);
        if (field) field.focus();
        else if (tries) setTimeout(focus, 30, tries - 1);
    };
    focus(20);
}"""


class Boxes:
    """`build` lays both boxes out inside an open Blocks. What each holds is in `Drafts`."""

    def build(self) -> None:
        self.drafts = gr.State(Drafts())
        with gr.Column(visible=False, elem_id="hint-box") as self.hint_box:
            self.hint_quote = gr.HTML(elem_id="hint-quote")
            self.hint = gr.Textbox(
                label="What should change? A few words are enough.",
                placeholder="For example: it is called Luna. You may also leave this empty.",
                lines=1,
                max_lines=4,
                elem_id="hint",
            )
            with gr.Row(elem_classes="panel-buttons"):
                self.revise = gr.Button("Revise", variant="primary", size="sm", elem_id="revise")
                self.write = gr.Button("Write it myself", size="sm", elem_id="write-it")
                self.not_now = gr.Button("Not now", size="sm", elem_id="not-now", variant="secondary")
        with gr.Column(visible=False, elem_id="edit-box") as self.edit_box:
            self.edited = gr.Textbox(label=EDIT_LABEL, lines=2, max_lines=12, elem_id="edited")
            with gr.Row(elem_classes="panel-buttons"):
                self.save = gr.Button("Use my wording", variant="primary", size="sm", elem_id="save-edit")
                self.cancel = gr.Button("Cancel", size="sm", elem_id="cancel-edit")

    @property
    def typed(self) -> list[Any]:
        """The inputs that say what was begun: `Drafts`, the hint and the edited reply."""
        return [self.drafts, self.hint, self.edited]

    def outputs(self, composer: gr.Column, rewriting: gr.Row) -> list[Any]:
        """What `box_updates` returns, in order."""
        boxes = [self.hint_box, self.edit_box, self.hint_quote, self.hint, self.edited]
        return [composer, *boxes, rewriting, self.drafts]


def box_updates(drafts: Drafts, messages: Sequence[MessageView], label: str = EDIT_LABEL) -> tuple[Any, ...]:
    """Composer, hint box, edit box, quote, hint, edited reply, the line above the composer, and the state itself.

    The open box shows the draft about its reply, or, for an edit, the reply as it is.
    """
    target = m.find(messages, drafts.target)
    text = target.text if target else ""
    is_hint, is_edit = drafts.box == HINT, drafts.box == EDIT
    return (
        gr.update(visible=not drafts.box),
        gr.update(visible=is_hint),
        gr.update(visible=is_edit),
        m.quote(text) if is_hint else gr.skip(),
        gr.update(value=drafts.words()) if is_hint and drafts.is_new else gr.skip(),
        gr.update(value=drafts.words(text), label=label) if is_edit and drafts.is_new else gr.skip(),
        gr.update(visible=drafts.rewritten is not None),
        drafts,
    )
