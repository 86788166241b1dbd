"""The backups in the data folder: what each still holds of what was erased since, and getting rid of that too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from services.data.backup_contents import BackupView
from services.user_session import UserBackups
from ui.errors import show_errors
from ui.events import QUIET
from ui.words import counted

if TYPE_CHECKING:
    from ui.visitor import Visitor

ABOUT = (
    "A backup keeps what is forgotten or deleted later. Erasing from backups makes a new backup and deletes those that hold "
    "anything that was erased since. Copies elsewhere stay."
)
NONE_HELD = "No backup holds anything that was erased."


class LearningBackups:
    """For owners; guests do not see the card, and are shown no backup."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor

    @property
    def backups(self) -> UserBackups:
        return self.visitor.backups

    def build(self) -> None:
        with gr.Column(elem_id="backups", elem_classes="card"):
            gr.HTML(f"<header><h3>Backups</h3></header><p class='detail'>{ABOUT}</p>")
            self.list = gr.HTML(elem_id="backup-list", apply_default_css=False)
            with gr.Row():
                self.make = gr.Button("Back up now", size="sm", elem_id="back-up")
                self.erase = gr.Button("Erase from backups too", size="sm", visible=False, elem_id="erase-from-backups")

    def wire(self, opened: Callable[..., Any]) -> None:
        opened(self.redraw, None, self.outputs, **QUIET)
        self.make.click(self.back_up, None, self.outputs, **QUIET)
        self.erase.click(self.erase_erased, None, self.outputs, **QUIET)

    @property
    def outputs(self) -> list[Any]:
        """What `redraw` returns, in order."""
        return [self.list, self.erase]

    @show_errors
    def redraw(self) -> tuple[str, gr.Button]:
        views = self.backups.views() if self.visitor.learning.sees_others else []
        return backups_html(views), gr.Button(visible=any(view.holds_erased for view in views))

    @show_errors
    def back_up(self) -> Any:
        gr.Info(f"Backed up as {self.backups.back_up()}.")
        return self.redraw()

    @show_errors
    def erase_erased(self) -> Any:
        gr.Info(erased_words(self.backups.erase()))
        return self.redraw()


def erased_words(deleted: Sequence[str]) -> str:
    """What an erasure from backups did."""
    if not deleted:
        return NONE_HELD
    return f"A new backup was made, and {counted(len(deleted), 'older one')} deleted."


def backups_html(views: Sequence[BackupView]) -> str:
    """Newest first, each with what it still holds."""
    if not views:
        return '<p class="empty">There are no backups in the data folder.</p>'
    return f"<ul>{''.join(map(_backup, views))}</ul>"


def _backup(view: BackupView) -> str:
    made = datetime.fromisoformat(view.made_at_utc)
    size = f"{max(view.bytes / 1e6, 0.1):,.1f} MB"
    held = counted(view.conversations, "conversation") if view.is_readable else "damaged"
    return (
        f'<li class="entry{" erased" if view.holds_erased else ""}"><h4>{escape(view.file)}</h4>'
        f'<footer><p><time datetime="{escape(view.made_at_utc)}">{made:%d %b %Y, %H:%M} UTC</time> · {size} · {held}</p>'
        f"<p>{escape(still_held(view))}</p></footer></li>"
    )


def still_held(view: BackupView) -> str:
    """What a backup holds that is gone here."""
    if not view.is_readable:
        return "It cannot be read or restored, and may still hold what was erased."
    held = [
        counted(number, thing)
        for number, thing in (
            (view.erased_conversations, "deleted conversation"),
            (view.erased_feedback, "forgotten feedback record"),
        )
        if number
    ]
    return f"Still holds {' and '.join(held)}." if held else "Holds nothing that was erased since."
