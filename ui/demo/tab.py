"""The Demo tab: starts and shows the demonstration, which services/demo.py runs."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from services.views import DemoTurn, DemoView
from ui.errors import show_errors
from ui.events import QUIET
from ui.gradio_workarounds.page_marks import mark_of, page_mark
from ui.learning.plots import Series, line_plot

if TYPE_CHECKING:
    from services.user_session import UserDemo
    from ui.visitor import Visitor

POLL_INTERVAL_SECONDS = 0.5  # only while the tab is open
WINDOW = 10  # first answers are counted over the last so many questions
SPEED_LABELS = {"slow": "Slow", "normal": "Normal", "fast": "Fast"}
PILLS = {
    "idle": "Ready",
    "preparing": "Preparing",
    "running": "Running",
    "paused": "Paused",
    "done": "Finished",
    "failed": "Failed",
}
INTRODUCTION = (
    "A simulated person chats with the small built-in model about things it half knows, gives partial hints when it is "
    "wrong (“it starts with g”), and confirms what is right. Each confirmed answer is trained and checked "
    "on this machine, while a frozen copy of the model is asked the same questions. A temporary adapter is used: your "
    "conversations and your model are not changed."
)


def _running_share(right: tuple[bool, ...]) -> list[tuple[float, float]]:
    """(question, share right of the last WINDOW)."""
    out = []
    for i in range(1, len(right) + 1):
        last = right[max(0, i - WINDOW) : i]
        out.append((float(i), sum(last) / len(last)))
    return out


def _mark(right: bool) -> str:
    return f'<span class="mark {"right" if right else "wrong"}">{"right" if right else "wrong"}</span>'


def _turn(turn: DemoTurn) -> str:
    lines = f'<p class="asks">{escape(turn.question)}</p>'
    if turn.reply:
        lines += f'<p class="says"><b>Learning model</b> {escape(turn.reply)} {_mark(turn.right)}</p>'
        lines += f'<p class="says frozen"><b>Frozen model</b> {escape(turn.frozen)} {_mark(turn.frozen_right)}</p>'
    if turn.hint:
        lines += f'<p class="hint"><b>Hint</b> {escape(turn.hint)}</p>'
    if turn.revision:
        lines += f'<p class="says"><b>Revision</b> {escape(turn.revision)} {_mark(turn.confirmed)}</p>'
    if turn.learned:
        lines += '<p class="learned">Learned</p>'
    return f'<li data-number="{turn.number}">{lines}</li>'


def demo_html(view: DemoView) -> str:
    """The whole demonstration; what the models said is escaped."""
    asked = len(view.first_try)
    exam = [(float(x), y) for x, y in view.exam]
    if asked and exam and exam[-1][0] < asked:
        exam.append((float(asked), exam[-1][1]))
    frozen_exam = [(0.0, view.exam_frozen), (float(max(asked, 1)), view.exam_frozen)] if exam else []
    exam_plot = line_plot(
        f"Right in wordings never trained on ({view.exam_size} questions)"
        if view.exam_size
        else "Right in wordings never trained on",
        [Series("learning", exam, "learning", steps=True), Series("frozen", frozen_exam, "frozen")],
        x_label="questions asked",
        y_most=1.0,
        x_most=float(view.total),
    )
    first_plot = line_plot(
        f"Right at the first try, last {WINDOW} questions",
        [
            Series("learning", _running_share(view.first_try), "learning"),
            Series("frozen", _running_share(view.first_try_frozen), "frozen"),
        ],
        x_label="questions asked",
        y_most=1.0,
        x_most=float(view.total),
    )
    figures = [
        ("Questions", f"{asked} of {view.total}"),
        ("Right at first, learning", str(sum(view.first_try))),
        ("Right at first, frozen", str(sum(view.first_try_frozen))),
        ("Trainings kept", str(view.kept)),
        ("Refused by the checks", str(view.refused)),
    ]
    counted = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures)
    turns = "".join(map(_turn, reversed(view.turns)))
    talk = f"<ol>{turns}</ol>" if turns else '<p class="none">Messages will appear here, newest first.</p>'
    done = f' aria-valuenow="{asked}" aria-valuemin="0" aria-valuemax="{view.total}"'
    share = 100 * asked / view.total if view.total else 0
    now = escape(view.now or _at_rest(view))
    bar = f'role="progressbar" aria-label="Questions asked"{done}><span style="width:{share:.0f}%"></span>'
    return (
        f'<div class="demo" data-phase="{escape(view.phase)}" data-asked="{asked}"><section class="card seen"><header>'
        f'<h3>What it learns</h3><span class="pill">{PILLS[view.phase]}</span></header><div class="bar" {bar}</div>'
        f'<p class="now" role="status">{now}</p><div class="plots">{exam_plot}{first_plot}</div>'
        f'<dl class="figures">{counted}</dl></section>'
        f'<section class="card talk"><header><h3>Conversation</h3></header>{talk}</section></div>'
    )


def _at_rest(view: DemoView) -> str:
    match view.phase:
        case "idle":
            return "Press Start. A run takes a few minutes; you may chat meanwhile."
        case "paused":
            return "Paused. Press Resume to continue."
        case "done":
            gain = round(100 * ((view.exam[-1][1] if view.exam else 0) - view.exam_frozen))
            return f"Finished: {gain:+d} points in wordings never trained on. Reset deletes it."
        case _:
            return ""


class DemoTab:
    """`build` lays the tab out inside an open gr.Tab; `wire` connects the events. Nothing is polled while it is closed."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor

    @property
    def demo(self) -> UserDemo:
        return self.visitor.demo

    def build(self) -> None:
        with gr.Column(elem_id="demo"):
            gr.HTML(f'<div class="card intro"><h2>Watch it learn</h2><p>{INTRODUCTION}</p></div>', elem_id="demo-intro")
            with gr.Row(elem_id="demo-buttons"):
                self.start = gr.Button("Start the demo", variant="primary", size="md", elem_id="demo-start")
                self.reset = gr.Button("Reset", size="md", elem_id="demo-reset", interactive=False)
                self.speed = gr.Radio(
                    [(label, key) for key, label in SPEED_LABELS.items()],
                    value=self.demo.speed,
                    label="Speed",
                    elem_id="demo-speed",
                    container=False,
                )
            self.seen = gr.HTML(demo_html(self.demo.view()), elem_id="demo-seen", apply_default_css=False)

    def wire(self, opened: Callable[..., Any]) -> list[gr.Timer]:
        """`opened` is the event of this tab being shown. Returns the timers that tick while it is seen."""
        self.shown = page_mark()
        timer = gr.Timer(POLL_INTERVAL_SECONDS, active=False)
        outputs = [self.seen, self.start, self.reset, self.shown]
        opened(self.open, [self.speed], [*outputs, self.speed], **QUIET)
        timer.tick(self.refresh, [self.shown], outputs, queue=False, **QUIET)
        self.start.click(self.press, None, outputs, **QUIET)
        self.reset.click(self.throw_away, None, outputs, **QUIET)
        self.speed.input(self.choose_speed, [self.speed], None, **QUIET)
        return [timer]

    def redraw(self) -> tuple[Any, ...]:
        view = self.demo.view()
        label = {"idle": "Start the demo", "paused": "Resume", "done": "Start again", "failed": "Start again"}
        start = gr.Button(label.get(view.phase, "Pause"), interactive=view.phase != "preparing")
        return demo_html(view), start, gr.Button(interactive=view.phase != "idle"), mark_of(view)

    def open(self, speed: str) -> Any:
        """`speed` is what the page shows: sent again only where it differs, or a quick choice would be undone by it."""
        return *self.redraw(), gr.skip() if speed == self.demo.speed else self.demo.speed

    def refresh(self, shown: str) -> Any:
        """The timer's tick: nothing is sent while nothing changed."""
        return gr.skip() if mark_of(self.demo.view()) == shown else self.redraw()

    @show_errors
    def press(self) -> Any:
        """The one button: start, pause, resume."""
        if self.demo.view().phase == "running":
            self.demo.pause()
        else:
            self.demo.start()
        return self.redraw()

    @show_errors
    def throw_away(self) -> Any:
        self.demo.reset()
        return self.redraw()

    @show_errors
    def choose_speed(self, speed: str) -> None:
        self.demo.set_speed(speed)
