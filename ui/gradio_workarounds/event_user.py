"""Gradio 6.31 gives a handler its request only where the handler has a parameter for it, so every handler of the page would
need one. The request of the event that is being handled is read from Gradio's own context instead.
"""

from __future__ import annotations

from gradio.context import LocalContext


def id_of_event_user() -> str | None:
    """The id of the user whose event is being handled; None where none is, as while the page is built, or without logins."""
    request = LocalContext.request.get(None)
    return request.username if request else None
