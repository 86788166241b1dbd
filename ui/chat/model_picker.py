"""The choice of the base model above the chat, for owners. The Models tab says more, and takes models that are new here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from spear_core.errors import SpearError
from ui.errors import USER_ERRORS, show_errors
from ui.events import QUIET
from ui.visitor import Visitor

RELOAD = "(switched) => { if (switched) location.reload(); }"
LEAST_CHOICES = 2  # one model is no choice


class ModelPicker:
    """`build` lays it out inside an open Blocks; `wire` fills it when the page is loaded."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor

    def build(self) -> None:
        with gr.Row(elem_id="picker", visible=False) as self.row:
            self.choice = gr.Dropdown([], label="Model", show_label=False, container=False, elem_id="model-picker")
            self.state = gr.HTML(elem_id="model-picker-state", apply_default_css=False)

    def wire(self, page: gr.Blocks) -> None:
        self.switched = gr.Checkbox(False, visible="hidden")  # a State would not reach the script
        page.load(self.fill, None, [self.row, self.choice], **QUIET)
        changing = [self.choice, self.state, self.switched]
        chosen = self.choice.input(self.switch, [self.choice], changing, **QUIET)
        chosen.then(None, [self.switched], None, js=RELOAD)

    @show_errors
    def fill(self) -> tuple[Any, ...]:
        """The models that were used here, for an owner who has a choice."""
        known = self.visitor.models.known()
        may_choose = self.visitor.user.is_owner and len(known) >= LEAST_CHOICES
        if not may_choose:
            return gr.Row(visible=False), gr.skip()
        return gr.Row(visible=True), self._choices()

    def _choices(self) -> gr.Dropdown:
        known = self.visitor.models.known()
        current = next(model.name for model in known if model.is_current)
        return gr.Dropdown([(Path(model.name).name, model.name) for model in known], value=current, interactive=True)

    @show_errors
    def switch(self, name: str) -> Iterator[Any]:
        """Load the model and serve it; the present one answers until then, and stays where the other one cannot be had."""
        models = self.visitor.models
        if any(model.name == name and model.is_current for model in models.known()):
            yield gr.skip()
            return
        yield (
            gr.Dropdown(interactive=False),
            '<p role="status">Loading. The current model answers meanwhile…</p>',
            False,
        )
        try:
            memory = models.weigh(name)
            if memory.needed_bytes > memory.free_bytes:
                raise SpearError(
                    "There is not enough free memory for this model; the Models tab shows how much it needs."
                )
            switched = models.switch(name)
        except USER_ERRORS:
            yield self._choices(), "", False
            raise
        yield self._choices(), "", switched
