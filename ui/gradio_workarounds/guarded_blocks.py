"""Gradio's Blocks for a page that strangers may send events to: values that no component can have sent are refused.

And one whose streamed updates arrive whole.
"""

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

    def handle_streaming_diffs(
        self, block_fn: Any, data: list[Any], session_hash: Any, run: Any, final: bool, simple_format: bool = False
    ) -> list[Any]:
        """What a generator yields, as differences to what it yielded before; `gr.update`s whole.

        The browser applies a difference to the very object that it was given first. Where several arrive before it has read
        the first, as on a busy machine, the first has lost what the next does not repeat: the question stayed in the box.
        """
        yielded = list(data)
        sent = super().handle_streaming_diffs(block_fn, data, session_hash, run, final, simple_format)
        if final or simple_format:
            return sent
        return [
            difference if difference is whole or not _is_update(whole) else [["replace", [], whole]]
            for whole, difference in zip(yielded, sent, strict=True)
        ]


def _is_update(value: Any) -> bool:
    return isinstance(value, dict) and value.get("__type__") == "update"
