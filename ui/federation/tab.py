"""The Federation tab: this instance's key, its peers, merges. The HTML is made in lists.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from ui.errors import show_errors, word
from ui.events import QUIET
from ui.federation.lists import merges_html, peers_html, self_html
from ui.gradio_workarounds.page_marks import mark_of, page_mark

if TYPE_CHECKING:
    from services.user_session import UserSync
    from ui.visitor import Visitor

POLL_INTERVAL_SECONDS = 2.0  # only while the tab is open
# where no address is configured, the one under which the visitor came is the best guess
OWN_JS = """
const tell_address = () => element.querySelectorAll('code.address').forEach((code) => {
    code.textContent = `${code.dataset.url || location.origin}#${code.dataset.key}`;
});
tell_address();
watch('value', tell_address);
"""
CIRCLE_JS = """
const tell_time = () => element.querySelectorAll('time').forEach((time) => {
    time.textContent = new Date(time.dateTime).toLocaleString([], {dateStyle: 'medium', timeStyle: 'short'});
});
tell_time();
watch('value', tell_time);
element.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-do]');
    const known = ['approve', 'decline', 'remove', 'sync'];  // Gradio looks for the events' names here
    if (known.includes(button?.dataset.do)) trigger(button.dataset.do, {key: button.dataset.key || ''});
});
"""


class FederationTab:
    """`build` lays the tab out inside an open gr.Tab; `wire` connects the events. Nothing runs while it is closed."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor

    @property
    def sync(self) -> UserSync:
        return self.visitor.sync

    def build(self) -> None:
        with gr.Row(elem_id="federation", elem_classes="lists"):
            with gr.Column(min_width=300):
                self.own = gr.HTML(elem_id="own", js_on_load=OWN_JS, apply_default_css=False)
                self.merges = gr.HTML(elem_id="merges", js_on_load=CIRCLE_JS, apply_default_css=False)
            with gr.Column(min_width=300):
                with gr.Row(elem_id="add-peer"):
                    self.address = gr.Textbox(label="Add a peer", placeholder="http://host:7860#key", max_lines=1)
                    self.add_button = gr.Button("Add", min_width=72)
                self.peers = gr.HTML(elem_id="peers", js_on_load=CIRCLE_JS, apply_default_css=False)

    def wire(self, opened: Callable[..., Any]) -> list[gr.Timer]:
        """`opened` is the event of this tab being shown. Returns the timers that tick while it is seen."""
        self.shown = page_mark()
        timer = gr.Timer(POLL_INTERVAL_SECONDS, active=False)
        lists = [self.own, self.peers, self.merges, self.shown]
        opened(self.open, None, lists, **QUIET)
        timer.tick(self.refresh, [self.shown], lists, queue=False, **QUIET)
        for event in (self.add_button.click, self.address.submit):
            event(self.add, [self.address], [*lists, self.address], **QUIET)
        self.peers.approve(self.approve, None, lists, **QUIET)
        self.peers.decline(self.decline, None, lists, **QUIET)
        self.peers.remove(self.remove, None, lists, **QUIET)
        self.peers.sync(self.sync_now, None, lists, **QUIET)
        return [timer]

    def redraw(self) -> tuple[str, str, str, str]:
        """The three cards, and the mark of what they show."""
        circle = self.sync.view()
        return self_html(circle), peers_html(circle), merges_html(circle), mark_of(circle)

    @show_errors
    def open(self) -> Any:
        return self.redraw()

    @show_errors
    def refresh(self, shown: str) -> Any:
        """The timer's tick: nothing is sent while nothing changed."""
        drawn = self.redraw()
        return gr.skip() if drawn[-1] == shown else drawn

    @show_errors
    def add(self, address: str) -> Any:
        self.sync.add(address)
        gr.Info("Added. This instance contacts it now; its owner has to approve this instance too.")
        return *self.redraw(), ""

    @show_errors
    def approve(self, event: gr.EventData) -> Any:
        self.sync.approve(word(event, "key"))
        return self.redraw()

    @show_errors
    def decline(self, event: gr.EventData) -> Any:
        self.sync.decline(word(event, "key"))
        return self.redraw()

    @show_errors
    def remove(self, event: gr.EventData) -> Any:
        self.sync.remove(word(event, "key"))
        gr.Info("Removed. Nothing is sent to it or accepted from it any more.")
        return self.redraw()

    @show_errors
    def sync_now(self) -> Any:
        self.sync.sync_now()
        gr.Info("Contacting the peers now.")
        return self.redraw()
