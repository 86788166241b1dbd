"""Answers of several versions side by side, as HTML. Pure functions; every word of a person or a model is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from services.views import AnswerView
from ui.chat.markdown import render
from ui.words import version_name


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
