"""Versions of the adapter: comparing two on one prompt, download and upload as a zip file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ui.errors import USER_ERRORS, show_errors
from ui.events import QUIET
from ui.learning.comparison import comparing
from ui.words import version_name

if TYPE_CHECKING:
    from services.learning.comparison import ComparisonService
    from services.user_session import UserAdapterFiles, UserLearning
    from ui.visitor import Visitor

ABOUT_UPLOAD = (
    "<p class='detail'>A zip file with an adapter in PEFT's format, made for this model. It is used only "
    "if it passes the checks: the answers that you confirmed must stay right. No code is read from it.</p>"
)
COMPARED_JS = """
const shown = element.querySelector('.answers');
let left = '';  // the comparison that Escape ended; its answers may still come
watch('value', () => {
    if (props.value?.html && props.value.run !== left) shown.innerHTML = props.value.html;
});
document.addEventListener('keydown', (event) => {
    const isAsking = element.offsetParent && props.value?.asking && props.value.run !== left;
    if (event.key !== 'Escape' || !isAsking || document.querySelector('dialog[open]')) return;
    left = props.value.run;
    shown.innerHTML = '';
    trigger('leave', {});
});
"""


class LearningVersions:
    """The tools under the list of versions."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor

    @property
    def learning(self) -> UserLearning:
        return self.visitor.learning

    @property
    def comparison(self) -> ComparisonService:
        return self.visitor.comparison

    @property
    def files(self) -> UserAdapterFiles:
        return self.visitor.adapter_files

    def build(self) -> None:
        with gr.Column(elem_id="versions", elem_classes="card"):
            gr.HTML("<header><h3>Before and after</h3></header>")
            self.prompt = gr.Textbox(
                label="Ask two versions the same question",
                placeholder="What is the capital of Norway?",
                elem_id="compare-prompt",
            )
            with gr.Row():
                self.before = gr.Dropdown([("the base model", 0)], value=0, label="Before", elem_id="compare-before")
                self.after = gr.Dropdown([("the base model", 0)], value=0, label="After", elem_id="compare-after")
            self.compare = gr.Button("Compare", size="sm", variant="primary", elem_id="compare-versions")
            self.compared = gr.HTML(
                {},
                elem_id="compared-versions",
                elem_classes="compared",
                html_template='<div class="answers"></div>',
                js_on_load=COMPARED_JS,
                apply_default_css=False,
            )
        with gr.Column(elem_id="files", elem_classes="card"):
            gr.HTML("<header><h3>Export / import</h3></header>")
            with gr.Row(elem_id="download-row"):
                self.version = gr.Dropdown([], label="Version", elem_id="download-version")
                self.download = gr.Button("Download", size="sm", visible=False, elem_id="download-zip")
            gr.HTML(ABOUT_UPLOAD)
            self.upload = gr.UploadButton("Upload an adapter", file_types=[".zip"], size="sm", elem_id="upload-zip")
            self.uploaded = gr.HTML(elem_id="uploaded", apply_default_css=False)

    def wire(self, opened: Callable[..., Any]) -> None:
        asking = [self.prompt, self.before, self.after]
        opened(self.versions, None, self.lists, **QUIET)
        asked = [
            event(self.ask, asking, [self.compared], **QUIET) for event in (self.compare.click, self.prompt.submit)
        ]
        self.compared.leave(None, cancels=asked)
        self.version.input(self.link, [self.version], [self.download], **QUIET)
        self.upload.upload(self.take_over, [self.upload], [self.uploaded], **QUIET).then(
            self.versions, None, self.lists, **QUIET
        )

    @property
    def lists(self) -> list[Any]:
        """What `versions` returns, in order."""
        return [self.before, self.after, self.version, self.download]

    @show_errors
    def versions(self) -> tuple[Any, ...]:
        """The versions that still have files, newest first; before: the base model, after: what serves."""
        stored = [a for a in self.learning.adapters() if a.status != "pruned"]
        choices = [(f"v{a.version}", a.version) for a in stored]
        live = next((a.version for a in stored if a.status == "live"), 0)
        all_of_them = [*choices, (version_name(0), 0)]
        chosen = live or (choices[0][1] if choices else None)
        return (
            gr.Dropdown(all_of_them, value=0),
            gr.Dropdown(all_of_them, value=live),
            gr.Dropdown(choices, value=chosen),
            download_button(chosen),
        )

    @show_errors
    def ask(self, prompt: str, before: int, after: int) -> Iterator[Any]:
        if not (prompt or "").strip():
            gr.Info("Write a question first.")
            yield gr.skip()
            return
        versions = [before] if before == after else [before, after]
        yield from comparing(self.comparison, prompt, versions)

    @show_errors
    def link(self, version: int | None) -> gr.Button:
        return download_button(version)

    @show_errors
    def take_over(self, file: str) -> Iterator[Any]:
        yield '<p class="detail" role="status">Checking the adapter…</p>'
        try:
            version = self.files.upload(Path(file))
        except USER_ERRORS:
            yield ""
            raise
        finally:
            Path(file).unlink(missing_ok=True)
        yield f'<p class="detail" role="status">Imported: v{version} answers now. Undo removes it.</p>'


def download_button(version: int | None) -> gr.Button:
    """The link to a version's zip, which the HTTP API serves; hidden where there is no version."""
    if version is None:
        return gr.Button(visible=False)
    return gr.Button(f"Download v{version}", link=f"v1/adapters/{version}/zip", visible=True)
