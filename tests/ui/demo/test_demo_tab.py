"""The Demo tab's answers to the page; the run itself is tested with its service and in the browser."""

from __future__ import annotations

import gradio as gr

from services.app import AppServices
from services.demo import DemoService
from services.engine import Engine
from ui.demo.tab import DemoTab


def test_opening_the_tab_does_not_undo_a_speed_that_was_just_chosen() -> None:
    class Nothing(AppServices):
        def __init__(self) -> None:
            self.demo = DemoService(Engine.__new__(Engine))

    tab = DemoTab(Nothing())
    assert tab.open("normal")[-1] == gr.skip(), "what the page shows already is not sent: it could arrive after a click"
    tab.choose_speed("fast")
    assert tab.open("normal")[-1] == "fast", "chosen on another page"
