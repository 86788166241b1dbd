"""The page: header, tabs, look. The look is a Gradio theme with system fonts, and assets/page.css."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from services.views import ModelView
from ui.chat.tab import ChatTab
from ui.demo.tab import DemoTab
from ui.events import QUIET
from ui.federation.tab import FederationTab
from ui.gradio_workarounds.guarded_blocks import GuardedBlocks
from ui.gradio_workarounds.visible_timers import tick_where_seen
from ui.learning.tab import LearningPage
from ui.models.tab import ModelsTab
from ui.theme.assets import ASSETS, STYLES, script
from ui.theme.icons import icon

if TYPE_CHECKING:
    from ui.visitor import Visitor

TITLE = "SPEAR chat"
# gr.themes.Font names a font that is already on the visitor's machine; a plain string would be fetched.
SANS = [gr.themes.Font(name) for name in ("system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")]
MONO = [gr.themes.Font(name) for name in ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")]


def look() -> dict[str, Any]:
    """The keyword arguments that dress the page where it is mounted."""
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_lg,
        font=SANS,
        font_mono=MONO,
    )
    return {"theme": theme, "css_paths": list(STYLES), "favicon_path": str(ASSETS / "icon.svg")}


def _parameters(count: int) -> str:
    """4_700_000 -> `4.7 M parameters`."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit} parameters"
    return f"{count} parameters"


def header_html(model: ModelView) -> str:
    return (
        '<header class="top"><div class="brand"><b>SPEAR</b><span>a model that learns from you</span></div>'
        f'<div class="model"><span class="name">{escape(model.name)}</span><span class="size"> · '
        f'{_parameters(model.parameters)}</span><button type="button" class="tool" data-do="theme" '
        f'aria-label="Light or dark" title="Light or dark">{icon("light")}</button></div></header>'
    )


def build_page(visitor: Visitor) -> gr.Blocks:
    """All of the screen, unmounted. Analytics are off; nothing on the page comes from another host.

    A further tab is one more entry: an object with `build()` and `wire(opened)`, which is told when the tab is shown and
    returns the timers that tick while it is seen.
    """
    with GuardedBlocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        header = gr.HTML(header_html(visitor.model), elem_id="top", js_on_load=script("theme"), apply_default_css=False)
        chat, learning, demo = ChatTab(visitor), LearningPage(visitor), DemoTab(visitor)
        models = ModelsTab(visitor, header, header_html)
        tabs: dict[str, Any] = {
            "Chat": chat,
            "Learning": learning,
            "Federation": FederationTab(visitor),
            "Demo": demo,
            "Models": models,
        }
        opened: dict[str, Any] = {}
        with gr.Tabs(elem_id="pages", overflow_behavior="wrap"):
            for name, tab in tabs.items():
                with gr.Tab(name, elem_id=f"{name.lower()}-page") as shown:
                    tab.build()
                opened[name] = shown.select
        chat.wire(page)
        timers = {name: tab.wire(opened[name]) for name, tab in tabs.items() if not isinstance(tab, ChatTab)}
        for changed in learning.lists.changed:  # what was forgotten in the Learning tab shows in the chat too
            chat.refresh_after(changed)
        # the page was built with the model of the start; another one may answer by now
        page.load(lambda: header_html(visitor.model), None, [header], **QUIET)
        tick_where_seen(list(opened.values()), timers)
    return page
