"""Shows errors as warnings on the page: the only place where the page catches exceptions.

What an event brings was made by a script in the visitor's browser, or by somebody who writes such requests by hand.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from html import escape
from typing import Any, ParamSpec

import gradio as gr
from pydantic import ConfigDict, ValidationError, validate_call

from feedback_store.errors import StoreError
from spear_core.errors import SpearError

P = ParamSpec("P")
USER_ERRORS = (SpearError, StoreError)
UNREADABLE = "The page sent something that cannot be read; reload the page."
_AS_ANNOTATED = ConfigDict(strict=True, arbitrary_types_allowed=True)  # a number in quotes is no number


def show_errors(handler: Callable[P, Any]) -> Callable[P, Any]:
    """Wrap an event handler: a SpearError or StoreError becomes a warning on the page, and nothing else changes.

    What the page sends must be of the types that the handler's annotations say; pydantic checks them.
    """
    checked = validate_call(config=_AS_ANNOTATED)(handler)
    nothing = None if inspect.signature(handler).return_annotation in (None, "None") else gr.skip()
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def stream(*args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
            try:
                yield from _called(checked, handler, *args, **kwargs)
            except USER_ERRORS as error:
                gr.Warning(_as_html(error))
                yield gr.skip()

        return stream

    @functools.wraps(handler)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return _called(checked, handler, *args, **kwargs)
        except USER_ERRORS as error:
            gr.Warning(_as_html(error))
            return nothing

    return call


def _as_html(error: Exception) -> str:
    """Gradio takes a warning for HTML, and an error may quote what a peer, a file or a visitor says of itself."""
    return escape(str(error), quote=False)


def _called(checked: Callable[..., Any], handler: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Raises SpearError for arguments of other types than the handler's annotations say."""
    try:
        return checked(*args, **kwargs)
    except ValidationError as error:
        if error.title != handler.__qualname__:  # of something that the handler itself checked
            raise
        raise SpearError(UNREADABLE) from error


def word(event: gr.EventData, name: str) -> str:
    """A text that came with an event. Raises SpearError where there is none."""
    return str(_said(event, name, str))


def number(event: gr.EventData, name: str) -> int:
    """A whole number that came with an event, perhaps as a text. Raises SpearError where there is none."""
    try:
        return int(_said(event, name, (int, str)))
    except ValueError as e:
        raise SpearError(UNREADABLE) from e


def flag(event: gr.EventData, name: str) -> bool:
    """A yes or no that came with an event. Raises SpearError where there is none."""
    return bool(_said(event, name, bool))


def _said(event: gr.EventData, name: str, kind: type | tuple[type, ...]) -> Any:
    said = event._data.get(name) if isinstance(event._data, dict) else None
    if not isinstance(said, kind):
        raise SpearError(UNREADABLE)
    return said
