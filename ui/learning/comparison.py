"""Answers of several versions side by side, as HTML. Every word of a person or a model is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import gradio as gr

from services.views import AnswerView
from ui.chat.markdown import render
from ui.words import version_name

if TYPE_CHECKING:
    from services.learning.comparison import ComparisonService
    from spear_core.training.traces import Messages


def comparing(
    comparison: ComparisonService, prompt: str | Messages, versions: Sequence[int], **known: str
) -> Iterator[Any]:
    """What a box shows while versions are asked and when they have answered.

    `run` names the comparison: once its box was left, the page takes no answer of it, and the handler that is cancelled
    stops between two versions. `known` is passed on to the page.
    """
    question = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    about = {**known, "run": uuid4().hex}
    yield {**about, "asking": True, "html": comparison_html(question, None)}
    for answers in comparison.in_steps(prompt, versions):
        yield {**about, "html": comparison_html(question, answers)} if answers else gr.skip()


def comparison_html(prompt: str, answers: Sequence[AnswerView] | None) -> str:
    """The prompt and one column for each answer; None while they are being written."""
    if answers is None:
        body = '<p class="detail" role="status">Asking both versions…</p>'
    elif len(answers) == 1:
        body = (
            f"{_column(answers[0])}<p class='detail'>Nothing was learned yet, so there is nothing to compare with. "
            "Correct a reply first.</p>"
        )
    else:
        same = len({answer.text for answer in answers}) == 1
        note = "<p class='detail'>Both answers are the same.</p>" if same else ""
        body = f'<div class="versus">{"".join(map(_column, answers))}</div>{note}'
    return f'<p class="prompt">{escape(prompt)}</p>{body}'


def _column(answer: AnswerView) -> str:
    return f'<section><h4>{escape(version_name(answer.version))}</h4><div class="words">{render(answer.text)}</div></section>'
