"""The Models tab: which base model answers, what another one needs, and the switch. Rendering is pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from services.views import KnownModel, MemoryView, ModelView
from ui.errors import USER_ERRORS, show_errors
from ui.events import QUIET

if TYPE_CHECKING:
    from services.user_session import UserModels
    from ui.visitor import Visitor

RELOAD = "(switched) => { if (switched) location.reload(); }"
INTRODUCTION = (
    "Any causal language model of Transformers, from a folder on this machine or from the local Hub cache. Each model keeps "
    "its own adapters: what one has learned is there again when you come back to it. Everyone on this instance talks to the "
    "same model."
)


def size(count: float) -> str:
    """Bytes as a person says them: `1.4 GB`."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def known_html(models: Sequence[KnownModel]) -> str:
    """The models that were used here, the present one marked."""
    rows = "".join(_known(model) for model in models)
    return f'<section class="card"><header><h3>Models on this instance</h3></header><ul class="models">{rows}</ul></section>'


def _where(name: str) -> str:
    """A folder below the one the app was started in is named from there."""
    path = Path(name)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else name


def _known(model: KnownModel) -> str:
    name = escape(Path(model.name).name)
    learned = (
        f"{model.versions} version{'' if model.versions == 1 else 's'}" if model.versions else "nothing learned yet"
    )
    live = f", v{model.active} live" if model.active else ""
    pill = '<span class="pill live">answers now</span>' if model.is_current else ""
    return (
        f'<li class="entry"><header><h4>{name}</h4>{pill}</header><p class="where">{escape(_where(model.name))}</p>'
        f"<p>{learned}{live}</p></li>"
    )


def memory_html(memory: MemoryView) -> str:
    """Needed against free, before anything is loaded."""
    fits = memory.needed_bytes <= memory.free_bytes
    share = min(1.0, memory.needed_bytes / max(memory.free_bytes, 1))
    words = (
        f"Needs about {size(memory.needed_bytes)}; {size(memory.free_bytes)} are free."
        if fits
        else f"Needs about {size(memory.needed_bytes)}, and only {size(memory.free_bytes)} are free. Close other programs or "
        "choose a smaller model."
    )
    return (
        f'<div class="memory {"fits" if fits else "too-large"}"><p><b>{escape(Path(memory.name).name)}</b>, '
        f'{memory.parameters / 1e6:,.1f} million parameters</p><div class="bar" role="meter" aria-label="Share of the free memory" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{100 * share:.0f}"><span style="width:{100 * share:.1f}%"></span>'
        f"</div><p>{words}</p></div>"
    )


class ModelsTab:
    """`build` lays the tab out inside an open gr.Tab; `wire` connects the events."""

    def __init__(self, visitor: Visitor, header: gr.HTML, header_html: Callable[[ModelView], str]) -> None:
        self.visitor = visitor
        self.header, self.header_html = header, header_html

    @property
    def models(self) -> UserModels:
        return self.visitor.models

    def build(self) -> None:
        with gr.Column(elem_id="models"):
            gr.HTML(
                f'<div class="card intro"><h2>Another model</h2><p>{INTRODUCTION}</p></div>', elem_id="models-intro"
            )
            with gr.Row(elem_id="models-columns"):
                with gr.Column(elem_id="models-known", min_width=300):
                    self.known = gr.HTML(known_html(self.models.known()), apply_default_css=False)
                with gr.Column(elem_id="models-switch", elem_classes="card", min_width=300):
                    gr.HTML("<header><h3>Switch</h3></header>")
                    self.name = gr.Dropdown(
                        [],
                        label="Folder or Hub name",
                        info="Choose one that was used here, or type another.",
                        allow_custom_value=True,
                        elem_id="model-name",
                    )
                    self.memory = gr.HTML(elem_id="model-memory", apply_default_css=False)
                    with gr.Row(elem_classes="panel-buttons"):
                        self.look = gr.Button("Check memory", size="sm", elem_id="model-check")
                        self.go = gr.Button(
                            "Switch to it", variant="primary", size="sm", interactive=False, elem_id="model-switch"
                        )
                        self.cancel = gr.Button("Cancel", size="sm", visible=False, elem_id="model-cancel")

    def wire(self, opened: Callable[..., Any]) -> list[gr.Timer]:
        """`opened` is the event of this tab being shown. Nothing here ticks."""
        self.switched = gr.Checkbox(False, visible="hidden")  # a State would not reach the script
        opened(self.open, None, [self.known, self.name], **QUIET)
        checked = [self.memory, self.go]
        self.name.input(self.check, [self.name], checked, **QUIET)
        self.look.click(self.check, [self.name], checked, **QUIET)
        changing = [self.memory, self.go, self.cancel, self.known, self.header, self.switched]
        self.go.click(self.switch, [self.name], changing, **QUIET).then(None, [self.switched], None, js=RELOAD)
        self.cancel.click(self.keep, None, None, **QUIET)
        return []

    @show_errors
    def open(self) -> tuple[Any, ...]:
        models = self.models.known()
        choices = [(Path(model.name).name, model.name) for model in models if not model.is_current]
        return known_html(models), gr.Dropdown(choices)  # what is being typed stays

    @show_errors
    def check(self, name: str | None) -> tuple[Any, ...]:
        """Memory first; nothing is loaded by looking."""
        if not (name or "").strip():
            return "", gr.Button(interactive=False)
        try:
            memory = self.models.weigh(str(name))
        except USER_ERRORS as error:
            sentence = str(error)
            return f'<p class="problem" role="alert">{escape(sentence[:1].upper() + sentence[1:])}.</p>', gr.Button(
                interactive=False
            )
        return memory_html(memory), gr.Button(interactive=memory.needed_bytes <= memory.free_bytes)

    @show_errors
    def keep(self) -> None:
        """Cancel: the present model stays."""
        self.models.cancel()

    @show_errors
    def switch(self, name: str) -> Iterator[Any]:
        waiting = '<p class="detail" role="status">Loading; the present model answers until the other one is ready…</p>'
        rest = (gr.skip(),) * 3
        yield waiting, gr.Button(interactive=False), gr.Button(visible=True), *rest
        try:
            switched = self.models.switch(name)
        except USER_ERRORS:
            yield "", gr.Button(interactive=True), gr.Button(visible=False), *rest
            raise
        said = '<p class="detail" role="status">Cancelled; nothing has changed.</p>'
        if switched:
            said = '<p class="detail" role="status">Done. The page loads again.</p>'
        header = self.header_html(self.visitor.model)
        yield (
            said,
            gr.Button(interactive=False),
            gr.Button(visible=False),
            known_html(self.models.known()),
            header,
            switched,
        )
