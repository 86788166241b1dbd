"""Which state of a view a page shows, kept by the page itself, so that a timer sends the view only where it differs.

A `gr.State` is kept by the server: it says what was sent last, while the page shows what arrived last. On a busy machine
an answer may overtake an earlier one. Then they differ, nothing seems to have changed, and the older view stays for good.
"""

from __future__ import annotations

import hashlib

import gradio as gr


def page_mark() -> gr.Textbox:
    """Where a page keeps the mark of a view that it shows."""
    return gr.Textbox("", visible="hidden")


def mark_of(view: object) -> str:
    """16 hexadecimal digits; alike views have the same mark."""
    return hashlib.sha256(repr(view).encode()).hexdigest()[:16]
