"""Errors become a sentence on the page; anything unexpected stays an error."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr
import pytest

from feedback_store.errors import StoreError
from spear_core.errors import SpearError
from ui import errors as edge


@pytest.fixture
def warnings_shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    shown: list[str] = []
    monkeypatch.setattr(edge.gr, "Warning", shown.append)
    return shown


@pytest.mark.parametrize("error", [SpearError, StoreError])
def test_an_expected_error_is_shown_and_changes_nothing(error: type[Exception], warnings_shown: list[str]) -> None:
    @edge.show_errors
    def handler() -> str:
        raise error("The disk is full.")

    assert handler() == gr.skip()
    assert warnings_shown == ["The disk is full."]


def test_a_handler_that_returns_nothing_returns_nothing_after_an_error_either(warnings_shown: list[str]) -> None:
    """Gradio writes a warning into the log for a value where an event has no output."""

    @edge.show_errors
    def handler() -> None:
        raise SpearError("The disk is full.")

    assert handler() is None and warnings_shown == ["The disk is full."]


def test_a_stream_that_fails_midway_keeps_what_it_sent(warnings_shown: list[str]) -> None:
    @edge.show_errors
    def handler() -> Iterator[str]:
        yield "first"
        raise SpearError("Too long.")

    assert list(handler()) == ["first", gr.skip()]
    assert warnings_shown == ["Too long."]


def test_what_an_error_quotes_is_text_and_no_html(warnings_shown: list[str]) -> None:
    @edge.show_errors
    def handler() -> None:
        raise SpearError("The adapter is of type '<img src=x>' & more.")

    handler()
    assert warnings_shown == ["The adapter is of type '&lt;img src=x&gt;' &amp; more."]


def test_a_bug_is_not_hidden() -> None:
    @edge.show_errors
    def handler() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        handler()
