"""How events of the page are wired: without progress marks and names in an API, and timers only of the tab that is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# Tabs tell of being shown late and in no certain order (the first one tells of itself after a quick visitor has gone on
# to another), so what counts is what can be seen once the page has settled.
IS_SHOWN = """async () => {
    await new Promise((settled) => setTimeout(settled, 100));
    return [document.querySelector('#%s-page')?.offsetParent != null];
}"""


def timer_of_tab(tab: str, seconds: float, closed: Callable[..., Any]) -> gr.Timer:
    """A timer, at rest until the tab's own opening starts it; `closed` are the events of the other tabs being shown."""
    timer = gr.Timer(seconds, active=False)
    shown = gr.Checkbox(visible=False)
    closed(lambda is_shown: gr.Timer(active=bool(is_shown)), [shown], [timer], js=IS_SHOWN % tab, **QUIET)
    return timer
