"""How events of the page are wired: without progress marks and names in an API, and timers only where they are seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# Tabs tell of being shown late and in no certain order (the first one tells of itself after a quick visitor has gone on
# to another), so what counts is what can be seen once the page has settled.
SHOWN_TAB = """async () => {
    await new Promise((settled) => setTimeout(settled, 100));
    scrollTo(0, 0);  // a narrow window scrolls as a whole: another tab is shown from its beginning
    return [document.querySelector('#pages [role=tab][aria-selected=true]')?.textContent.trim() ?? ''];
}"""


def tick_where_seen(selected: Sequence[Any], timers: Mapping[str, Sequence[gr.Timer]]) -> None:
    """Let the timers of the tab that is seen tick, and no others. `selected` are the tabs' events, `timers` goes by name."""
    everyone = [(name, timer) for name, of_tab in timers.items() for timer in of_tab]
    seen = gr.Textbox(visible=False)
    gr.on(
        selected,
        lambda tab: [gr.Timer(active=name == tab) for name, _ in everyone],
        [seen],
        [timer for _, timer in everyone],
        js=SHOWN_TAB,
        trigger_mode="always_last",  # a change of tab while an earlier one is under way counts
        **QUIET,
    )
