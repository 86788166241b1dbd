"""The Learning tab: progress, corrections, and versions of the adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from ui.events import QUIET
from ui.learning.backups import LearningBackups
from ui.learning.corrections import LearningTab
from ui.learning.progress import LearningProgress
from ui.learning.versions import LearningVersions

if TYPE_CHECKING:
    from ui.visitor import Visitor


class LearningPage:
    """`build` lays the tab out inside an open gr.Tab; `wire` connects the events. Nothing runs while it is closed."""

    def __init__(self, visitor: Visitor) -> None:
        self.figures = LearningProgress(visitor)
        self.lists = LearningTab(visitor)
        self.versions = LearningVersions(visitor)
        self.backups = LearningBackups(visitor)

    def build(self) -> None:
        with gr.Column(elem_id="learning-all"):
            self.figures.build()
            with gr.Row(elem_id="learning"):
                with gr.Column(elem_id="learned-side", min_width=300):
                    self.lists.build_learned()
                with gr.Column(elem_id="adapters-side", min_width=300):
                    self.lists.build_adapters()
                    self.versions.build()
                    self.backups.build()

    def wire(self, opened: Callable[..., Any]) -> list[gr.Timer]:
        """`opened` is the event of this tab being shown. Returns the timers that tick while it is seen."""
        self.versions.wire(opened)
        self.backups.wire(opened)
        timers = [*self.figures.wire(opened), *self.lists.wire(opened)]
        for changed in self.lists.changed:
            changed.then(self.versions.versions, None, self.versions.lists, **QUIET)
            changed.then(self.backups.redraw, None, self.backups.outputs, **QUIET)
        return timers
