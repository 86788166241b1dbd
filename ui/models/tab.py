"""The Models tab: which model answers, which others there are, what each needs, and the switch. HTML: lists.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from services.accounts.permissions import NotAllowed
from services.views import ModelView
from ui.errors import USER_ERRORS, show_errors, word
from ui.events import QUIET
from ui.gradio_workarounds.page_marks import mark_of, page_mark
from ui.models.lists import LIST_JS, found_html, known_html, memory_html, recommended_html

if TYPE_CHECKING:
    from services.user_session import UserModels
    from ui.visitor import Visitor

RELOAD = "(switched) => { if (switched) location.reload(); }"
POLL_INTERVAL_SECONDS = 1.0  # only while the tab is open
INTRODUCTION = (
    "Another language model can answer here: one that is on this machine, or one from the list below. Each model keeps what it "
    "has learned, and it is there again when you come back to it. Everyone on this instance talks to the same model."
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
                with gr.Column(elem_id="models-lists", min_width=300):
                    self.known = self._list(known_html(self.models.known()), "models-known")
                    self.found = self._list("", "models-found")
                    self.recommended = self._list("", "models-recommended")
                with gr.Column(elem_id="models-side", min_width=300):
                    self._build_switch()
                    self._build_folder()

    def _list(self, html: str, name: str) -> gr.HTML:
        return gr.HTML(html, elem_id=name, js_on_load=LIST_JS, apply_default_css=False)

    def _build_switch(self) -> None:
        with gr.Column(elem_id="models-switch", elem_classes="card"):
            gr.HTML("<header><h3>Switch</h3></header>")
            self.name = gr.Dropdown(
                [],
                label="Model",
                info="Choose one from the lists, or type a folder, a GGUF file, or a name on the Hugging Face Hub.",
                allow_custom_value=True,
                elem_id="model-name",
            )
            self.memory = gr.HTML(elem_id="model-memory", apply_default_css=False)
            with gr.Row(elem_classes="panel-buttons"):
                self.look = gr.Button("Check memory", size="sm", elem_id="model-check")
                self.go = gr.Button("Switch", variant="primary", size="sm", interactive=False, elem_id="model-switch")
                self.cancel = gr.Button("Cancel", size="sm", visible=False, elem_id="model-cancel")
            self.thinking = gr.Checkbox(
                label="Think before answering",
                info="For the current model. Slower and often better; its thoughts are hidden above the answer.",
                visible=False,
                elem_id="model-thinking",
            )

    def _build_folder(self) -> None:
        with gr.Column(elem_id="models-folder", elem_classes="card"):
            gr.HTML("<header><h3>A folder with models</h3></header>")
            self.folder = gr.Textbox(
                label="Folder",
                info="Models in it are listed under “Also on this machine”. Nothing is copied until it is used.",
                elem_id="model-folder",
            )
            self.search = gr.Button("Search this folder", size="sm", elem_id="model-search")

    def wire(self, opened: Callable[..., Any]) -> list[gr.Timer]:
        """`opened` is the event of this tab being shown. Returns the timer that ticks while it is seen."""
        self.switched = gr.Checkbox(False, visible="hidden")  # a State would not reach the script
        self.drawn = page_mark()
        timer = gr.Timer(POLL_INTERVAL_SECONDS, active=False)
        opened(self.open, None, [self.known, self.name, self.thinking], **QUIET).then(
            self.look_around, None, [self.found, self.folder], **QUIET
        )
        timer.tick(self.follow, [self.drawn], [self.recommended, self.drawn], queue=False, **QUIET)
        self.thinking.input(self.set_thinking, [self.thinking], [self.thinking], **QUIET)
        checked = [self.memory, self.go]
        self.name.input(self.check, [self.name], checked, **QUIET)
        self.look.click(self.check, [self.name], checked, **QUIET)
        for listed in (self.known, self.found, self.recommended):
            listed.choose(self.choose, None, [self.name, *checked], **QUIET)
        self.recommended.download(self.download, None, [self.recommended, self.drawn], **QUIET)
        self.recommended.stop(self.stop, None, [self.recommended, self.drawn], **QUIET)
        for event in (self.search.click, self.folder.submit):
            event(self.name_folder, [self.folder], [self.found, self.folder], **QUIET)
        changing = [self.memory, self.go, self.cancel, self.known, self.header, self.switched]
        self.go.click(self.switch, [self.name], changing, **QUIET).then(None, [self.switched], None, js=RELOAD)
        self.cancel.click(self.keep, None, None, **QUIET)
        return [timer]

    @show_errors
    def open(self) -> tuple[Any, ...]:
        models = self.models.known()
        choices = [(Path(model.name).name, model.name) for model in models if not model.is_current]
        thinks = self.models.thinks
        thinking = gr.Checkbox(visible=thinks is not None, value=bool(thinks))
        return known_html(models), gr.Dropdown(choices), thinking  # what is being typed stays

    @show_errors
    def look_around(self) -> tuple[Any, ...]:
        return self._found()

    def _found(self) -> tuple[Any, ...]:
        """What is on this machine is for owners: a guest sees an empty list."""
        try:
            # what is being typed stays where no folder is named yet
            return found_html(self.models.on_this_machine()), self.models.named_folder() or gr.skip()
        except NotAllowed:
            return "", gr.skip()

    @show_errors
    def follow(self, drawn: str) -> tuple[Any, ...]:
        """The timer's tick: nothing is sent while nothing changed."""
        html, mark = self._recommended()
        return (gr.skip(), gr.skip()) if mark == drawn else (html, mark)

    def _recommended(self) -> tuple[str, str]:
        """The list, and the mark of what it shows."""
        html = recommended_html(self.models.recommended(), self.models.download_view())
        return html, mark_of(html)

    @show_errors
    def download(self, event: gr.EventData) -> tuple[str, ...]:
        self.models.download(word(event, "name"))
        return self._recommended()

    @show_errors
    def stop(self) -> tuple[str, ...]:
        self.models.cancel_download()
        return self._recommended()

    @show_errors
    def name_folder(self, folder: str) -> tuple[Any, ...]:
        self.models.name_folder(folder)
        return self._found()

    @show_errors
    def set_thinking(self, is_thinking: bool) -> Any:
        self.models.set_thinking(is_thinking)
        return gr.Checkbox(value=bool(self.models.thinks))

    @show_errors
    def choose(self, event: gr.EventData) -> tuple[Any, ...]:
        name = word(event, "name")
        return name, *self._checked(name)

    @show_errors
    def check(self, name: str | None) -> tuple[Any, ...]:
        """Memory first; nothing is loaded by looking."""
        return self._checked(str(name or ""))

    def _checked(self, name: str) -> tuple[Any, ...]:
        if not name.strip():
            return "", gr.Button(interactive=False)
        try:
            memory = self.models.weigh(name)
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
        waiting = '<p class="detail" role="status">Loading. The current model answers until the other one is ready…</p>'
        rest = (gr.skip(),) * 3
        yield waiting, gr.Button(interactive=False), gr.Button(visible=True), *rest
        try:
            switched = self.models.switch(name)
        except USER_ERRORS:
            yield "", gr.Button(interactive=True), gr.Button(visible=False), *rest
            raise
        said = '<p class="detail" role="status">Cancelled; nothing has changed.</p>'
        if switched:
            said = '<p class="detail" role="status">Done. The page is reloaded.</p>'
        header = self.header_html(self.visitor.model)
        yield (
            said,
            gr.Button(interactive=False),
            gr.Button(visible=False),
            known_html(self.models.known()),
            header,
            switched,
        )
