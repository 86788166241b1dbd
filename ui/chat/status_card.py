"""The status card: what became of a correction, the proof, and the buttons that undo and pause. Rendering is pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from services.views import EARLIER, AdapterView, ChangedAnswerView, LearningStatus, Phase, QueuedCorrection
from ui.errors import show_errors
from ui.events import QUIET
from ui.gradio_workarounds.page_marks import mark_of, page_mark
from ui.words import duration, version_name

if TYPE_CHECKING:
    from services.user_session import UserLearning
    from ui.visitor import Visitor

POLL_INTERVAL_SECONDS = 1.0
BUSY_POLL_INTERVAL_SECONDS = 0.3  # while a round runs: its steps are worth watching
BUSY = frozenset({"queued", "training", "checking"})
# phase of a round: what the card calls it while it lasts, and afterwards
STAGES = {
    "queued": ("Queued", "Queued"),
    "training": ("Training", "Trained"),
    "checking": ("Checking", "Checked"),
    "live": ("Live", "Live"),
}
PILLS: dict[Phase, str] = {
    "idle": "Ready",
    "waiting": "Waiting",
    "queued": "Queued",
    "training": "Training",
    "checking": "Checking",
    "merging": "Merging",
    "live": "Live",
    "not_kept": "Not kept",
    "undone": "Undone",
    "paused": "Paused",
    "failed": "Failed",
}
SHARED = "What is learned here is shared by everyone who uses this instance."
HISTORY_LENGTH = 5
CHANGED_LENGTH = 10  # changed answers that are shown
QUEUE_LENGTH = 5
OPEN_JS = """
element.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-do=open]');
    if (button) trigger('open', {id: button.dataset.id});
});
"""


def _stepper(status: LearningStatus) -> str:
    """Queued -> Trained -> Checked -> Live with the present stage marked, or where a round that was not kept ended."""
    names = list(STAGES)
    not_kept = status.phase == "not_kept"
    if not (not_kept or status.phase in names):
        return ""
    position = names.index("checking" if not_kept else status.phase)
    items = []
    for i, name in enumerate(names):
        is_done = i < position or status.phase == "live" or (not_kept and i == position)
        state = "done" if is_done else "now" if i == position else "next"
        label = STAGES[name][is_done]
        if name == "training" and state == "now" and status.step:
            label = f"Step {status.step}"
        if name == "live" and not_kept:
            label, state = "Not kept", "stopped"
        if name == "live" and is_done:
            label = f"Live v{status.adapter_version}"
        items.append(f'<li class="{state}">{escape(label)}</li>')
    return f'<ol class="stages">{"".join(items)}</ol>'


def _bar(status: LearningStatus) -> str:
    if status.phase not in BUSY or status.progress is None:
        return ""
    percent = round(100 * status.progress)
    return (
        f'<div class="bar" role="progressbar" aria-valuenow="{percent}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-label="Progress of the training"><span style="width:{percent}%"></span></div>'
    )


def _waiting(status: LearningStatus) -> str:
    """How long it takes, and what is being learned, by name."""
    html = ""
    if status.seconds_left is not None and status.phase in BUSY:
        source = (
            "by this machine's speed" if status.is_first_estimate else "as long as it usually takes on this machine"
        )
        words = duration(status.seconds_left)
        left = (
            f"{words.capitalize() if words.startswith('a ') else f'About {words}'} left, {source}."
            if status.seconds_left
            else "It takes longer than usual on this machine."
        )
        html += f'<p class="detail left">{left}</p>'
    rows = "".join(
        f"<li{' class=now' if one.is_training else ''}>{_queued(one)}</li>" for one in status.queue[:QUEUE_LENGTH]
    )
    if len(status.queue) > QUEUE_LENGTH:
        rows += f"<li>and {len(status.queue) - QUEUE_LENGTH} more</li>"
    return f'{html}<ol class="queue" aria-label="Corrections being learned">{rows}</ol>' if rows else html


def _queued(one: QueuedCorrection) -> str:
    if not one.question:
        return "A correction by another user"
    return f"{escape(_short(one.question))} <b>{escape(_short(one.right))}</b>"


def _short(text: str, limit: int = 80) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


def _proof(status: LearningStatus) -> str:
    if status.proof is None:
        return ""
    proof = status.proof
    before = "the reply that was corrected" if proof.was_seen else version_name(proof.before_version)
    link = (
        f'<button type="button" class="link" data-do="open" data-id="{escape(proof.conversation_id)}">'
        "Open the conversation</button>"
        if proof.conversation_id
        else ""
    )
    return (
        '<div class="proof"><h4>The same question before and after</h4>'
        f'<p class="prompt">{escape(proof.prompt)}</p>'
        f"<dl><dt>Before <small>{before}</small></dt>"
        f'<dd class="before">{escape(proof.before)}</dd>'
        f"<dt>Now <small>{version_name(proof.after_version)}</small></dt>"
        f'<dd class="after">{escape(proof.after)}</dd></dl>{link}</div>'
    )


def _changed(status: LearningStatus) -> str:
    """The answers that the last round changed beside the correction, and earlier corrections that it lost."""
    lost = [c for c in status.changed if c.kind == EARLIER]
    other = [c for c in status.changed if c.kind != EARLIER]
    after = "After" if status.phase == "not_kept" else "Now"
    noun = "correction" if len(lost) == 1 else "corrections"
    confirmed_last = [replace(c, before=c.after, after=c.before) for c in lost]
    return _answers(
        confirmed_last, "The model now", "Confirmed", f"{len(lost)} earlier {noun} to be practised again"
    ) + _answers(other, "Before", after, f"{len(other)} of {status.checked} other answers changed", "neither-right")


def _answers(changed: Sequence[ChangedAnswerView], before: str, after: str, summary: str, css: str = "") -> str:
    """Questions with their two answers, so labelled; folded away under a summary, empty without any.

    The first is struck out and the second shown as right, but with `neither-right`: nobody has said which is.
    """
    if not changed:
        return ""
    items = "".join(
        f'<li class="{"leaks" if c.leaks else "other"}"><p class="prompt">{escape(c.question)}</p>'
        f'<dl><dt>{before}</dt><dd class="before">{escape(c.before)}</dd>'
        f'<dt>{after}</dt><dd class="after">{escape(c.after)}</dd></dl></li>'
        for c in changed[:CHANGED_LENGTH]
    )
    return f'<details class="changed proof {css}"><summary>{summary}</summary><ul>{items}</ul></details>'


def _contradiction(status: LearningStatus) -> str:
    """Two corrections of which the person should keep one; the buttons are below the card."""
    if status.contradiction is None:
        return ""
    c = status.contradiction
    return (
        '<div class="proof contradiction"><h4>Two corrections contradict each other</h4><dl>'
        f"<dt>Earlier <small>{escape(c.earlier_question)}</small></dt><dd>{escape(c.earlier_answer)}</dd>"
        f"<dt>Newer <small>{escape(c.newer_question)}</small></dt><dd>{escape(c.newer_answer)}</dd></dl></div>"
    )


def _history(adapters: list[AdapterView]) -> str:
    if not adapters:
        return ""
    words = {"live": "live", "kept": "kept", "rolled_back": "undone"}
    rows = "".join(
        f"<li><b>v{a.version}</b> <i>{escape(words.get(a.status, a.status))}</i> {escape(a.summary)}</li>"
        for a in adapters[:HISTORY_LENGTH]
    )
    return f'<details class="history"><summary>Versions so far</summary><ul>{rows}</ul></details>'


def card_html(status: LearningStatus, adapters: list[AdapterView]) -> str:
    """The whole card as HTML; every word that came from a person or a model is escaped."""
    is_about_the_proof = status.phase == "live" and status.proof is not None
    took = f" It took {duration(status.seconds)}." if is_about_the_proof and status.seconds is not None else ""
    return (
        f'<section class="card phase-{escape(status.phase)}" aria-live="polite" data-phase="{escape(status.phase)}" '
        f'data-version="{status.adapter_version}">'
        f'<header><h3>Learning</h3><span class="pill">{PILLS[status.phase]}</span></header>'
        f'<p class="headline">{escape(status.headline)}</p>{_stepper(status)}{_bar(status)}'
        f'<p class="detail">{escape(status.detail)}{took}</p>{_waiting(status)}{_proof(status)}{_changed(status)}{_contradiction(status)}'
        f'<p class="in-use">Answering now: <b>{version_name(status.adapter_version)}</b></p>{_history(adapters)}'
        f'<p class="shared">{SHARED}</p></section>'
    )


def undone_words(version: int) -> str:
    """After Undo, where `version` answers now."""
    return f"Undone. {'v' + str(version) if version else 'The base model'} answers now."


def restored_words(version: int) -> str:
    return f"Restored. v{version} answers now."


class StatusCard:
    """The card with its buttons. `build` lays it out inside an open Blocks; `wire` connects the events."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor

    @property
    def learning(self) -> UserLearning:
        return self.visitor.learning

    def build(self) -> None:
        status = self.learning.status()
        self.card = gr.HTML(self._render(status), elem_id="status-card", js_on_load=OPEN_JS)
        with gr.Row(elem_id="status-buttons"):
            self.undo = gr.Button("Undo: back to the previous version", size="sm", visible=status.can_roll_back)
            self.again = gr.Button(self._restore_label(status), size="sm", visible=bool(status.undone))
            self.pause = gr.Button(self._pause_label(status), size="sm", variant="secondary")
        has_two = status.contradiction is not None
        with gr.Row(elem_id="contradiction-buttons"):
            self.keep_newer = gr.Button("Keep the newer correction", size="sm", visible=has_two)
            self.keep_earlier = gr.Button("Keep the earlier correction", size="sm", visible=has_two)
        self.shown = page_mark()
        self.timer = gr.Timer(POLL_INTERVAL_SECONDS)

    @property
    def outputs(self) -> list[Any]:
        """What `redraw` returns, in order."""
        buttons = [self.undo, self.again, self.pause, self.keep_newer, self.keep_earlier]
        return [self.card, *buttons, self.shown, self.timer]

    def wire(self, page: gr.Blocks) -> None:
        outputs = self.outputs
        self.timer.tick(
            self.refresh, [self.shown], outputs, queue=False, **QUIET
        )  # a plain request: cheap, every second
        page.load(self.redraw, None, outputs, **QUIET)
        self.undo.click(self.roll_back, None, outputs, **QUIET)
        self.again.click(self.restore, None, outputs, **QUIET)
        self.pause.click(self.toggle_pause, None, outputs, **QUIET)
        self.keep_newer.click(self.settle_newer, None, outputs, **QUIET)
        self.keep_earlier.click(self.settle_earlier, None, outputs, **QUIET)

    def _render(self, status: LearningStatus) -> str:
        return card_html(status, self.learning.adapters(HISTORY_LENGTH))

    @staticmethod
    def _pause_label(status: LearningStatus) -> str:
        return "Resume learning" if status.paused else "Pause learning"

    def redraw(self) -> tuple[Any, ...]:
        status = self.learning.status()
        card = self._render(status)
        interval = BUSY_POLL_INTERVAL_SECONDS if status.phase in BUSY else POLL_INTERVAL_SECONDS
        undo, pause = gr.update(visible=status.can_roll_back), self._pause_label(status)
        choice = gr.update(visible=status.contradiction is not None)
        again = gr.update(value=self._restore_label(status), visible=bool(status.undone))
        buttons = (undo, again, pause, choice, choice)
        return card, *buttons, mark_of(status), gr.Timer(interval)

    @staticmethod
    def _restore_label(status: LearningStatus) -> str:
        return f"Restore v{status.undone}"

    @show_errors
    def refresh(self, shown: str) -> Any:
        """The timer's tick: nothing is sent while nothing changed."""
        if mark_of(self.learning.status()) == shown:
            return gr.skip()
        return self.redraw()

    @show_errors
    def roll_back(self) -> Any:
        gr.Info(undone_words(self.learning.roll_back()))
        return self.redraw()

    @show_errors
    def restore(self) -> Any:
        if undone := self.learning.status().undone:
            gr.Info(restored_words(self.learning.restore(undone)))
        return self.redraw()

    @show_errors
    def toggle_pause(self) -> Any:
        if self.learning.status().paused:
            self.learning.resume()
        else:
            self.learning.pause()
        return self.redraw()

    @show_errors
    def settle_newer(self) -> Any:
        return self._settle(newer=True)

    @show_errors
    def settle_earlier(self) -> Any:
        return self._settle(newer=False)

    def _settle(self, *, newer: bool) -> Any:
        if found := self.learning.status().contradiction:
            ids = (found.newer_id, found.earlier_id)
            self.learning.settle(*(ids if newer else ids[::-1]))
        return self.redraw()
