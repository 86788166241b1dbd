"""The page: header, the two tabs, look. The look is a Gradio theme with system fonts, and assets/page.css."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from ui.chat_tab import ChatTab
from ui.learning_tab import LearningTab
from ui.scripts import ASSETS, STYLES

if TYPE_CHECKING:
    from services.workbench import Workbench

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


def build_page(workbench: Workbench) -> gr.Blocks:
    """All of the screen, unmounted. Analytics are off; nothing on the page comes from another host."""
    model = workbench.model
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(
            '<div class="top"><div class="brand"><b>SPEAR</b><span>a model that learns from you</span></div>'
            f'<div class="model">{escape(model.name)}<span> · {_parameters(model.parameters)}</span></div></div>',
            elem_id="top",
        )
        learning = LearningTab(workbench)
        with gr.Tabs(elem_id="pages", overflow_behavior="wrap"):
            with gr.Tab("Chat", elem_id="chat-page") as chat_page:
                ChatTab(workbench).build(page)
            with gr.Tab("Learning", elem_id="learning-page") as learning_page:
                learning.build()
        learning.wire(opened=learning_page.select, closed=chat_page.select)
    return page
