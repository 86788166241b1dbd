"""The page's own plots and figures: what a screen reader hears, what is drawn, what is escaped."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from services.views import DemoTurn, DemoView, ProgressView, RoundView
from ui.demo.tab import demo_html
from ui.learning.plots import HEIGHT, WIDTH, Series, line_plot
from ui.learning.progress import headline, progress_html, rolling


def drawn(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])


def test_a_plot_says_its_latest_values_and_stays_inside_its_frame() -> None:
    html = line_plot(
        "Right <b>", [Series("ours", [(0, 0.1), (10, 0.75)]), Series("theirs", [])], x_label="asked", y_most=1
    )
    figure = drawn(html)
    assert figure.get("aria-label") == "Right <b>. Now: ours: 75 %; theirs: nothing yet."
    (line,) = figure.findall("polyline")
    points = [tuple(map(float, pair.split(","))) for pair in (line.get("points") or "").split()]
    assert len(points) == 2 and all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert points[1][0] > points[0][0] and points[1][1] < points[0][1], "later is right, more is up"


def test_a_table_holds_every_value_for_those_who_do_not_see_the_plot() -> None:
    html = line_plot(
        "Seconds", [Series("a", [(1, 2), (2, 3)]), Series("b", [(2, 5)])], x_label="n", unit=str, table=True
    )
    assert re.findall(r"<td>([^<]*)</td>", html) == ["2", "3", "5", "1", "2", ""]


def test_shares_are_taken_over_the_last_ones() -> None:
    assert rolling([True, False, False, False], window=2) == [(1.0, 1.0), (2.0, 0.5), (3.0, 0.0), (4.0, 0.0)]


def test_the_first_question_is_answered_in_a_sentence() -> None:
    assert "The base model answers" in headline(ProgressView())
    learned = ProgressView(first_try=(False,) * 20 + (True,) * 20, learned=7, version=7)
    assert headline(learned) == (
        "Yes: 7 right answers learned; v7 answers now. 100 % of the last 20 judged replies were right at the first try, 0 % of "
        "the first 20."
    )


def test_figures_are_shown_once_there_is_something_and_explained_before() -> None:
    assert "Nothing was learned yet" in progress_html(ProgressView(first_try=(True,)))
    round_ = RoundView(1, False, "Not kept: <b>why</b>", 2.0, None, 3, 0.5, 0.0, 0.01)
    html = progress_html(ProgressView(first_try=(False,), replies=30, revised=(True,), rounds=(round_,)))
    assert "<dt>Replies judged</dt><dd>1 of 30</dd>" in html
    assert "0 of 1" in html and "&lt;b&gt;why&lt;/b&gt;" in html and "refused" in html


def test_the_demonstration_shows_both_models_and_escapes_what_they_say() -> None:
    turn = DemoTurn(
        1, "Q?", "<i>A</i>", False, "B", False, hint="starts with g", revision="G", confirmed=True, learned=True
    )
    view = DemoView("running", 40, "", (False,), (False,), ((0, 0.2), (1, 0.5)), 0.2, 30, 1, 0, (turn,))
    html = demo_html(view)
    assert "&lt;i&gt;A&lt;/i&gt;" in html and "starts with g" in html and "Learned" in html
    assert "learning: 50 %; frozen: 20 %" in html
    assert 'aria-valuenow="1"' in html
