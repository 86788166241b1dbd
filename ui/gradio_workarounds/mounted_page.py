"""What a page needs that Gradio 6.31 mounts into another server instead of launching it."""

from __future__ import annotations

import gradio as gr
from fastapi import Request

from services.accounts.users_file import User


def check_paths(page: gr.Blocks) -> None:
    """Let Gradio check the paths of files. It does so for launched pages only, and a mounted page does not count as one."""
    page.has_launched = True


def is_queued(page: gr.Blocks, session: str) -> bool:
    """Whether a session of that name has events. Gradio offers no question for it, and raises in the middle of the stream
    of a session that it does not know.
    """
    return session in page._queue.pending_messages_per_session


def answered_events(page: gr.Blocks) -> list[int]:
    """The events that a handler answers. Gradio takes the browser's own ones too, and fails with a traceback in the log."""
    return [number for number, event in page.fns.items() if event.fn is not None]


def uploads(page: gr.Blocks) -> dict[int, tuple[int, ...]]:
    """The events that take an uploaded file, with the positions of the inputs that are files.

    Gradio takes any value of a certain shape for a file, whatever the input; so the guard must know where one may be.
    """
    found = {
        number: tuple(i for i, part in enumerate(event.inputs) if isinstance(part, gr.UploadButton))
        for number, event in page.fns.items()
    }
    return {number: positions for number, positions in found.items() if positions}


def user_id(request: Request) -> str | None:
    """The id of the user whom the guard let in. Gradio calls it the user's name, and hands it to the events."""
    user: User | None = getattr(request.state, "user", None)  # none on the routes that the guard leaves open
    return user.id if user else None
