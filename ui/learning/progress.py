"""The progress card: what the model has learned, in a sentence, figures and plots. Rendering is pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from statistics import median
from typing import TYPE_CHECKING, Any

import gradio as gr

from services.views import ProgressView, RoundView
from ui.errors import show_errors
from ui.events import QUIET
from ui.gradio_workarounds.page_marks import mark_of, page_mark
from ui.learning.plots import WIDE, Point, Series, line_plot, plain

if TYPE_CHECKING:
    from services.learning.progress import ProgressService
    from ui.visitor import Visitor

WINDOW = 20  # replies that a share is taken over
LAST_ROUNDS = 8  # verdicts that are listed
POLL_INTERVAL_SECONDS = 3.0  # only while the tab is open
EMPTY = (
    "<p class='headline'>Nothing was learned yet.</p><p class='detail'>Correct a reply in the <b>Chat</b> tab: press "
    "thumbs-down, give a hint, press <b>Better</b>. How often the model is right at the first try, how long each training "
    "took and the results of the checks are then shown here. To watch it without doing anything yourself, open the <b>Demo</b> tab.</p>"
)


def rolling(values: Sequence[bool], window: int = WINDOW) -> list[Point]:
    """(how many so far, share of the last `window`)."""
    return [(float(i), sum(values[max(0, i - window) : i]) / min(i, window)) for i in range(1, len(values) + 1)]


def _share(values: Sequence[bool]) -> str:
    return f"{100 * sum(values) / len(values):.0f} %" if values else "–"


def headline(view: ProgressView) -> str:
    """The first question's answer, in a sentence."""
    if not view.version:
        return "The base model answers: nothing that was learned is in use."
    answers = f"{view.learned} right answer{'' if view.learned == 1 else 's'} learned; v{view.version} answers now."
    first, last = view.first_try[:WINDOW], view.first_try[-WINDOW:]
    if len(view.first_try) < 2 * WINDOW:
        return f"Yes: {answers}"
    return (
        f"Yes: {answers} {_share(last)} of the last {WINDOW} judged replies were right at the first try, {_share(first)} of the "
        f"first {WINDOW}."
    )


def _seconds(rounds: Sequence[RoundView]) -> str:
    return f"{median(r.seconds for r in rounds):.1f} s" if rounds else "–"


def _loss(rounds: Sequence[RoundView], name: str) -> list[Point]:
    values = [(float(i), getattr(r, name)) for i, r in enumerate(rounds, start=1)]
    return [(i, float(value)) for i, value in values if value is not None]


def _cumulative(rounds: Sequence[RoundView], kept: bool) -> list[Point]:
    count, out = 0, []
    for i, r in enumerate(rounds, start=1):
        count += r.kept == kept
        out.append((float(i), float(count)))
    return out


def _verdicts(rounds: Sequence[RoundView]) -> str:
    rows = "".join(
        f'<li><span class="mark {"right" if r.kept else "wrong"}">{"kept" if r.kept else "refused"}</span> '
        f"{escape(r.verdict.removeprefix('Kept: ').removeprefix('Not kept: '))}</li>"
        for r in reversed(rounds[-LAST_ROUNDS:])
    )
    return f'<div class="verdicts"><h4>The last checks, newest first</h4><ol>{rows}</ol></div>' if rows else ""


def progress_html(view: ProgressView) -> str:
    """The whole card; the gate's words are escaped."""
    objected = [not right for right in view.first_try]
    if not view.rounds and not view.version and not any(objected):
        return f'<section class="card"><header><h3>Did it learn anything?</h3></header>{EMPTY}</section>'
    rounds = view.rounds
    numbers = [
        ("Replies judged", f"{len(view.first_try)} of {view.replies}"),
        ("Of these right at the first try", _share(view.first_try)),
        ("Of these rejected", _share(objected)),
        ("Revisions that succeeded", _share(view.revised)),
        ("Median training time", _seconds(rounds)),
        ("Trainings kept", f"{sum(r.kept for r in rounds)} of {len(rounds)}"),
    ]
    counted = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in numbers)
    live = [
        (float(i), float(r.seconds_to_live)) for i, r in enumerate(rounds, start=1) if r.seconds_to_live is not None
    ]
    plots = [
        line_plot(
            f"Judged replies, over the last {WINDOW}",
            [
                Series("right at the first try", rolling(view.first_try), "learning"),
                Series("rejected", rolling(objected), "warn"),
            ],
            x_label="judged replies",
            y_most=1.0,
            table=True,
            width=WIDE,
        ),
        line_plot(
            "Seconds",
            [
                Series("training", [(float(i), r.seconds) for i, r in enumerate(rounds, start=1)], "learning"),
                Series("from confirmation to live", live, "soft"),
            ],
            x_label="trainings",
            unit=plain,
            table=True,
            width=WIDE,
        ),
        line_plot(
            "Losses, mean over the steps",
            [
                Series("right answers", _loss(rounds, "win_loss"), "learning"),
                Series("rejected answers", _loss(rounds, "lose_loss"), "warn"),
                Series("answers to keep (KL)", _loss(rounds, "anchor_kl"), "soft"),
            ],
            x_label="trainings",
            unit=plain,
            table=True,
            width=WIDE,
        ),
        line_plot(
            "Results of the checks",
            [
                Series("kept", _cumulative(rounds, True), "learning", steps=True),
                Series("refused", _cumulative(rounds, False), "warn", steps=True),
            ],
            x_label="trainings",
            unit=plain,
            table=True,
            width=WIDE,
        ),
    ]
    return (
        '<section class="card"><header><h3>Did it learn anything?</h3></header>'
        f'<p class="headline">{escape(headline(view))}</p><dl class="numbers">{counted}</dl>'
        f'<div class="plots">{"".join(plots)}</div>{_verdicts(rounds)}</section>'
    )


class LearningProgress:
    """The card at the head of the Learning tab."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor

    @property
    def progress(self) -> ProgressService:
        return self.visitor.progress

    def build(self) -> None:
        self.card = gr.HTML(elem_id="progress", apply_default_css=False)

    def wire(self, opened: Callable[..., Any]) -> list[gr.Timer]:
        shown = page_mark()
        timer = gr.Timer(POLL_INTERVAL_SECONDS, active=False)
        opened(self.open, None, [self.card, shown], **QUIET)
        timer.tick(self.refresh, [shown], [self.card, shown], queue=False, **QUIET)
        return [timer]

    @show_errors
    def open(self) -> Any:
        return self._drawn(self.progress.view())

    @show_errors
    def refresh(self, shown: str) -> Any:
        """The timer's tick: nothing is sent while nothing changed."""
        view = self.progress.view()
        return gr.skip() if mark_of(view) == shown else self._drawn(view)

    @staticmethod
    def _drawn(view: ProgressView) -> tuple[str, str]:
        """The card, and the mark of what it shows."""
        return progress_html(view), mark_of(view)
