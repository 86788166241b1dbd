"""Where errors become sentences for a person: the one place the screen catches anything."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

import gradio as gr

from feedback_store.errors import StoreError
from spear_core.errors import SpearError

P = ParamSpec("P")
USER_ERRORS = (SpearError, StoreError)


def at_the_edge(handler: Callable[P, Any]) -> Callable[P, Any]:
    """Wrap an event handler: a SpearError or StoreError becomes a warning on the page, and nothing else changes."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def stream(*args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
            try:
                yield from handler(*args, **kwargs)
            except USER_ERRORS as error:
                gr.Warning(str(error))
                yield gr.skip()

        return stream

    @functools.wraps(handler)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return handler(*args, **kwargs)
        except USER_ERRORS as error:
            gr.Warning(str(error))
            return gr.skip()

    return call
