"""Gradio 6.31 keeps the timers of a hidden tab ticking, and reports that a tab is shown late and in no certain order: the
first tab may report after a quick visitor has gone on to another. The browser says which tab can be seen instead, once the
page has settled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from ui.events import QUIET

SHOWN_TAB = """async () => {
    await new Promise((settled) => setTimeout(settled, 100));
    scrollTo(0, 0);  // a narrow window scrolls as a whole: another tab is shown from its beginning
    return [document.querySelector('#pages [role=tab][aria-selected=true]')?.textContent.trim() ?? ''];
}"""


def tick_where_seen(selected: Sequence[Any], timers: Mapping[str, Sequence[gr.Timer]]) -> None:
    """Let the timers of the visible tab tick, and no others.

    Args:
        selected: the events of the tabs being shown.
        timers: the timers of each tab, by its name.
    """
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
