"""The lists of the Learning tab: what was learned and can be forgotten, which adapters exist. The HTML is made in lists.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from services.views import Forgotten
from ui.chat.status_card import restored_words, undone_words
from ui.errors import USER_ERRORS, flag, number, show_errors, word
from ui.events import QUIET
from ui.gradio_workarounds.page_marks import mark_of, page_mark
from ui.learning.backups import erased_words
from ui.learning.lists import LEARNED_STATUS, SOURCES, adapters_html, learned_html, matching, others_html
from ui.long_lists import PAGE_LENGTH
from ui.words import counted

if TYPE_CHECKING:
    from services.user_session import UserBackups, UserLearning
    from ui.visitor import Visitor

FILTERED = 1000  # entries that a filter looks through; the newest
POLL_INTERVAL_SECONDS = 2.0  # only while the tab is open

FORGET_DIALOG = (
    '<dialog aria-labelledby="forget-title"><h3 id="forget-title">Forget this?</h3><blockquote></blockquote>'
    "<p>The feedback is erased. Versions that learned from it are deleted, the newest version that never saw it answers "
    "instead, and later corrections are trained again. Peers that already downloaded a version keep it, and so "
    "do backups, until an owner erases it from them too.</p>"
    '<label class="backups"><input type="checkbox"> Erase from backups too: a new backup is made, and those that hold '
    "anything that was erased are deleted</label>"
    '<div class="buttons"><button type="button" class="sm warn" data-do="forget">Forget</button>'
    '<button type="button" class="sm" data-do="keep" autofocus>Keep</button></div></dialog>'
)
# Clicks are heard on the list itself, so that entries may come and go. Gradio calls `watch` after a list was redrawn.
_LIST_JS = """
const tell_time = () => element.querySelectorAll('time').forEach((time) => {
    const moment = new Date(time.dateTime), now = new Date();
    const year = moment.getFullYear() === now.getFullYear() ? {} : {year: 'numeric'};
    const wanted = {...year, month: 'short', day: 'numeric', hour: 'numeric', minute: '2-digit'};
    time.textContent = moment.toLocaleString([], wanted);
});
tell_time();
watch('value', tell_time);
element.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-do]');
    if (!button) return;
    if (button.dataset.do === 'more') return trigger('more');
    %s
});
"""
LEARNED_JS = _LIST_JS % (
    """
    const dialog = document.querySelector('#forget-dialog dialog');
    dialog.dataset.id = button.dataset.id;
    dialog.querySelector('.backups input').checked = false;
    dialog.querySelector('blockquote').textContent = button.closest('.entry').querySelector('h4').textContent;
    dialog.showModal();
    """
)
ADAPTERS_JS = _LIST_JS % (
    """
    if (button.dataset.do === 'roll_back') return trigger('roll_back');
    if (button.dataset.do === 'restore') return trigger('restore', {version: Number(button.dataset.version)});
    trigger('pin', {version: Number(button.dataset.version), pinned: button.dataset.pinned === 'true'});
    """
)
DIALOG_JS = """
const dialog = element.querySelector('dialog');
dialog.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-do]');
    if (!button && event.target !== dialog) return;
    dialog.close();
    const backups = dialog.querySelector('.backups input').checked;
    if (button?.dataset.do === 'forget') trigger('forget', {id: dialog.dataset.id, backups});
});
"""


class LearningTab:
    """`build_learned` and `build_adapters` lay the lists out; `wire` connects them. Nothing runs while the tab is closed."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor

    @property
    def learning(self) -> UserLearning:
        return self.visitor.learning

    @property
    def backups(self) -> UserBackups:
        return self.visitor.backups

    def build_learned(self) -> None:
        with gr.Row(elem_id="learned-filter"):
            self.words = gr.Textbox(
                value="",
                label="Search what was learned",
                show_label=False,
                placeholder="Search",
                container=False,
                min_width=120,
            )
            every = [("Every status", "")]
            self.status = gr.Dropdown(
                every + [(word, word) for word in LEARNED_STATUS],
                value="",
                label="Status",
                show_label=False,
                container=False,
                min_width=120,
            )
            self.source = gr.Dropdown(
                [("Every source", ""), *((label, key) for key, label in SOURCES.items())],
                value="",
                label="Source",
                show_label=False,
                container=False,
                min_width=120,
            )
        self.learned = gr.HTML(elem_id="learned", js_on_load=LEARNED_JS, apply_default_css=False)
        self.dialog = gr.HTML(FORGET_DIALOG, elem_id="forget-dialog", js_on_load=DIALOG_JS, apply_default_css=False)

    def build_adapters(self) -> None:
        self.adapters = gr.HTML(elem_id="adapters", js_on_load=ADAPTERS_JS, apply_default_css=False)

    def wire(self, opened: Callable[..., Any]) -> list[gr.Timer]:
        """`opened` is the event of this tab being shown. Returns the timers that tick while it is seen."""
        self.count = gr.State(PAGE_LENGTH)
        self.shown = page_mark()
        timer = gr.Timer(POLL_INTERVAL_SECONDS, active=False)
        lists = [self.learned, self.adapters, self.shown]
        asked = [self.count, self.words, self.status, self.source]
        for changed in (self.words.change, self.status.input, self.source.input):
            changed(self.filter, asked, lists, **QUIET)
        opened(self.open, asked, lists, **QUIET)
        self.changed: list[Any] = []  # events after which another version may answer
        timer.tick(self.refresh, [self.shown, *asked], lists, queue=False, **QUIET)
        for listed in (self.learned, self.adapters):
            listed.more(self.show_more, asked, [*lists, self.count], **QUIET)
        self.adapters.pin(self.pin, asked, lists, **QUIET)
        self.changed += [
            self.dialog.forget(self.forget, asked, lists, **QUIET),
            self.adapters.roll_back(self.roll_back, asked, lists, **QUIET),
            self.adapters.restore(self.restore, asked, lists, **QUIET),
        ]
        return [timer]

    # -- views -------------------------------------------------------------------------------------------------------

    def redraw(self, count: int, *wanted: str, going: str | None = None) -> tuple[str, str, str]:
        """Both lists, and the mark of what they show. `wanted`: words, status and source, empty for any."""
        is_filtered = any(wanted)
        entries, adapters = self.learning.learned(FILTERED if is_filtered else count + 1), self.learning.adapters()
        newest = FILTERED if is_filtered and len(entries) >= FILTERED else None
        if is_filtered:
            entries = matching(entries, *wanted)
        others = self.learning.learned_by_others(count + 1) if self.learning.sees_others else []
        mark = mark_of((entries, others, adapters, count, wanted))
        learned = learned_html(entries, count, going, is_filtered=is_filtered, newest=newest)
        return learned + others_html(others, count, going), adapters_html(adapters, count), mark

    @show_errors
    def filter(self, count: int, *wanted: str) -> Any:
        return self.redraw(count, *wanted)

    @show_errors
    def open(self, count: int, *wanted: str) -> Any:
        return self.redraw(count, *wanted)

    @show_errors
    def refresh(self, shown: str, count: int, *wanted: str) -> Any:
        """The timer's tick: nothing is sent while nothing changed."""
        drawn = self.redraw(count, *wanted)
        return gr.skip() if drawn[-1] == shown else drawn

    @show_errors
    def show_more(self, count: int, *wanted: str) -> Any:
        return *self.redraw(count + PAGE_LENGTH, *wanted), count + PAGE_LENGTH

    # -- actions -----------------------------------------------------------------------------------------------------

    @show_errors
    def forget(self, event: gr.EventData, count: int, *wanted: str) -> Iterator[Any]:
        """Erase one entry, if asked from backups too. It may take until a round under way has ended, so the entry says
        that it is going.
        """
        message_id, is_for_backups = word(event, "id"), flag(event, "backups")
        yield self.redraw(count, *wanted, going=message_id)
        try:
            done = self.learning.forget([message_id])
            gr.Info(forgotten_words(done, paused=self.learning.paused))  # a title would not be shown
            if is_for_backups:
                gr.Info(erased_words(self.backups.erase()))
        except USER_ERRORS:
            yield self.redraw(count, *wanted)
            raise
        yield self.redraw(count, *wanted)

    @show_errors
    def pin(self, event: gr.EventData, count: int, *wanted: str) -> Any:
        self.learning.pin(number(event, "version"), flag(event, "pinned"))
        return self.redraw(count, *wanted)

    @show_errors
    def roll_back(self, count: int, *wanted: str) -> Any:
        gr.Info(undone_words(self.learning.roll_back()))
        return self.redraw(count, *wanted)

    @show_errors
    def restore(self, event: gr.EventData, count: int, *wanted: str) -> Any:
        gr.Info(restored_words(self.learning.restore(number(event, "version"))))
        return self.redraw(count, *wanted)


def forgotten_words(done: Forgotten, *, paused: bool) -> str:
    """What a forgetting did, as it was done."""
    if not done.undone:
        return "Forgotten. No version had learned it, so the model stays as it is."
    names = " and ".join(f"v{version}" for version in done.undone)
    has, is_ = ("has", "is") if len(done.undone) == 1 else ("have", "are")
    now = f"v{done.version}" if done.version else "the base model"
    said = f"Forgotten. {names} {has} learned from it and {is_} deleted; {now} answers now."
    if not done.rounds:
        return said
    when = "will be trained again when you resume learning" if paused else "is being trained again without it"
    return f"{said} What {counted(done.rounds, 'training')} had taught besides {when}."
