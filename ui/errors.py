"""Where errors become sentences for a person: the one place the screen catches anything.

What an event brings was made by a script in the visitor's browser, or by somebody who writes such requests by hand.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from html import escape
from types import NoneType
from typing import Any, ParamSpec, get_args, get_type_hints

import gradio as gr

from feedback_store.errors import StoreError
from spear_core.errors import SpearError

P = ParamSpec("P")
USER_ERRORS = (SpearError, StoreError)
UNREADABLE = "The page sent something that cannot be read; load it again."
_PLAIN: dict[Any, tuple[type, ...]] = {
    str: (str,),
    bool: (bool,),
    int: (int,),
    float: (float, int),  # a whole number of a slider arrives as one
    NoneType: (NoneType,),
}


def show_errors(handler: Callable[P, Any]) -> Callable[P, Any]:
    """Wrap an event handler: a SpearError or StoreError becomes a warning on the page, and nothing else changes.

    What the page sends must be of the kind that the handler's parameter says, as far as that is plain: str, int | None.
    """
    check = _checker(handler)
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def stream(*args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
            try:
                check(*args, **kwargs)
                yield from handler(*args, **kwargs)
            except USER_ERRORS as error:
                gr.Warning(_as_html(error))
                yield gr.skip()

        return stream

    @functools.wraps(handler)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            check(*args, **kwargs)
            return handler(*args, **kwargs)
        except USER_ERRORS as error:
            gr.Warning(_as_html(error))
            return gr.skip()

    return call


def _as_html(error: Exception) -> str:
    """Gradio takes a warning for HTML, and an error may quote what a peer, a file or a visitor says of itself."""
    return escape(str(error), quote=False)


def _checker(handler: Callable[..., Any]) -> Callable[..., None]:
    """Raises SpearError for arguments that are not what the handler's annotations say."""
    signature = inspect.signature(handler)
    kinds: dict[str, tuple[type, ...]] = {}
    for name, hint in get_type_hints(handler).items():
        said = get_args(hint) or (hint,)
        if name != "return" and all(kind in _PLAIN for kind in said):
            kinds[name] = tuple(t for kind in said for t in _PLAIN[kind])

    def check(*args: Any, **kwargs: Any) -> None:
        given = signature.bind(*args, **kwargs).arguments
        for name, kind in kinds.items():
            several = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
            values = given.get(name, ()) if several else (given[name],) if name in given else ()
            if not all(isinstance(value, kind) for value in values):
                raise SpearError(UNREADABLE)

    return check


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
