"""Gradio's Blocks for a page that strangers may send events to: values that no component can have sent are refused."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr

from ui.errors import UNREADABLE

log = logging.getLogger(__name__)


class GuardedBlocks(gr.Blocks):
    """A choice that is not offered, a number out of bounds, a missing input: one sentence to whoever sent it.

    Gradio refuses them too, with the choices in its answer and a traceback in the log for each.
    """

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> Any:
        """Read an event's inputs, before any handler runs. Raises gr.Error with one sentence, and without a traceback."""
        try:
            return await super().preprocess_data(*args, **kwargs)
        except Exception as error:  # each component raises what it likes, and all of them read what a stranger sent
            log.info("an event of the page was refused (%s)", type(error).__name__)
            raise gr.Error(UNREADABLE, print_exception=False) from error
