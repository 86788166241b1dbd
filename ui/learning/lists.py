"""What was learned, and the adapters, as HTML. Pure functions; every word of a person or a model is escaped.

A button says what it is about in `data-` attributes; the scripts of corrections.py turn its click into an event.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

from services.views import AdapterView, LearnedView
from ui.long_lists import MORE, PAGE_LENGTH

MAX_FILTER_CHARACTERS = 1000  # of the words that entries are filtered by
SOURCES = {
    "liked": "Liked reply",
    "confirmed": "Confirmed revision",
    "edited": "Right answer written by hand",
    "unfixed": "No revision was right",
    "no_hint": "Disliked, no hint given",
    "judged": "Judged by the model itself from a hint",
    "relapse": "Asked again in the background, and wrong again",
}
# status of an entry: what it means, said when the pointer rests on the pill
LEARNED_STATUS = {
    "waiting": "Not trained yet.",
    "learned": "Trained, and in use.",
    "undone": "Undone together with the version that learned it.",
    "not kept": "Trained, but the result did not pass its checks.",
    "no answer": "Rejected. Without a right answer, nothing is learned from it.",
    "withdrawn": "The vote was taken back before it was trained.",
}
# status of an adapter: what the pill says, and what it means
ADAPTER_STATUS = {
    "live": ("live", "This version answers now."),
    "kept": ("kept", "An earlier version, still stored."),
    "rolled_back": ("undone", "Undone; it is no longer used. It can be restored."),
    "pruned": (
        "deleted",
        "Its files were deleted: to save space, or because something that it had learned was forgotten.",
    ),
}
UNDO = "Undo: back to the previous version"
EMPTY = (
    '<div class="empty"><p><b>Nothing learned yet.</b> To begin:</p><ol>'
    "<li>Ask something in the <b>Chat</b> tab.</li>"
    "<li>Is the answer wrong? Press thumbs-down and say in a few words what should change.</li>"
    "<li>Press <b>Better</b> under the revision that is right. It is learned in the background, usually within a minute.</li></ol>"
    "<p>Each correction is then listed here. Any of them can be forgotten again.</p></div>"
)
NONE_FIT = '<div class="empty"><p>No entry matches. Use fewer words, or choose every status and source.</p></div>'
NO_ADAPTERS = '<div class="empty"><p>None yet: the base model answers.</p></div>'


def _time(created_at_utc: str) -> str:
    """The moment in UTC; a script in the page rewrites it as the visitor's own time."""
    moment = datetime.fromisoformat(created_at_utc)
    return f'<time datetime="{escape(created_at_utc)}">{moment:%d %b %Y, %H:%M} UTC</time>'


def _pill(css: str, word: str, meaning: str) -> str:
    return f'<span class="pill {escape(css.replace(" ", "-"))}" title="{escape(meaning)}">{escape(word)}</span>'


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _answers(entry: LearnedView) -> str:
    """The right and the rejected answer, whichever are known."""
    rows = ""
    if entry.wrong:
        rows += f'<dt>Rejected</dt><dd class="before">{escape(entry.wrong)}</dd>'
    if entry.right:
        rows += f'<dt>{"Right" if entry.wrong else "Liked"}</dt><dd class="after">{escape(entry.right)}</dd>'
    return f"<dl>{rows}</dl>"


def _entry(entry: LearnedView, is_going: bool) -> str:
    source = escape(SOURCES.get(entry.source, entry.source))
    weight = f", counts for {entry.confidence * 100:.0f} %" if entry.confidence < 1 else ""
    button = (
        '<button type="button" class="sm" disabled>Forgetting…</button>'
        if is_going
        else f'<button type="button" class="sm" data-do="ask" data-id="{escape(entry.message_id)}" '
        f'aria-label="Forget: {escape(entry.question)}">Forget</button>'
    )
    learned_in = f" · in v{entry.version}" if entry.version else ""
    pill = _pill(entry.status, entry.status, LEARNED_STATUS.get(entry.status, ""))
    return (
        f'<li class="entry"><header><h4>{escape(entry.question)}</h4>{pill}</header>{_answers(entry)}'
        f"<footer><p>{source}{weight}{learned_in} · {_time(entry.created_at_utc)}</p>{button}</footer></li>"
    )


def _by_other(entry: LearnedView, is_going: bool) -> str:
    """What another user taught: who, when and in which version, without a word of theirs."""
    learned_in = f" · in v{entry.version}" if entry.version else ""
    button = (
        '<button type="button" class="sm" disabled>Forgetting…</button>'
        if is_going
        else f'<button type="button" class="sm" data-do="ask" data-id="{escape(entry.message_id)}" '
        f'aria-label="Forget what {escape(entry.user)} taught">Forget</button>'
    )
    pill = _pill(entry.status, entry.status, LEARNED_STATUS.get(entry.status, ""))
    return (
        f'<li class="entry other"><header><h4>Taught by {escape(entry.user or "someone without a login")}</h4>{pill}</header>'
        f"<footer><p>{_time(entry.created_at_utc)}{learned_in}</p>{button}</footer></li>"
    )


def others_html(entries: Sequence[LearnedView], count: int = PAGE_LENGTH, going: str | None = None) -> str:
    """For owners: the first `count` corrections of other users. Empty where there are none."""
    if not entries:
        return ""
    shown = "".join(_by_other(entry, entry.message_id == going) for entry in entries[:count])
    return (
        '<section class="card others"><header><h3>Taught by others</h3></header>'
        '<p class="detail">Their conversations are private, so that only the time and the version are shown. To see what a '
        f"version changed, compare it below with an earlier one.</p><ul>{shown}</ul>{MORE if len(entries) > count else ''}"
        "</section>"
    )


def matching(entries: Sequence[LearnedView], words: str = "", status: str = "", source: str = "") -> list[LearnedView]:
    """The entries that say these words and have this status and source; an empty one fits all."""
    wanted = set(words[:MAX_FILTER_CHARACTERS].casefold().split())

    def says(entry: LearnedView) -> bool:
        said = f"{entry.question} {entry.right} {entry.wrong}".casefold() if wanted else ""
        return all(word in said for word in wanted)

    return [e for e in entries if status in ("", e.status) and source in ("", e.source) and says(e)]


def learned_html(
    entries: Sequence[LearnedView],
    count: int = PAGE_LENGTH,
    going: str | None = None,
    *,
    is_filtered: bool = False,
    newest: int | None = None,
) -> str:
    """The first `count` entries; `going` is the id of the one that is being forgotten right now.

    `newest`: how many entries a filter has looked through, where there may be more.
    """
    shown = "".join(_entry(entry, entry.message_id == going) for entry in entries[:count])
    listed = (
        f"<ul>{shown}</ul>{MORE if len(entries) > count else ''}" if entries else NONE_FIT if is_filtered else EMPTY
    )
    looked_through = f" Searched among the newest {newest:,}." if newest else ""
    return (
        '<section class="card"><header><h3>What was learned</h3></header>'
        f'<p class="detail">Your corrections and likes, newest first.{looked_through}</p>{listed}</section>'
    )


def _adapter(adapter: AdapterView) -> str:
    word, meaning = ADAPTER_STATUS.get(adapter.status, (adapter.status, ""))
    parent = f"v{adapter.parent_version}" if adapter.parent_version else "the base model"
    made_of = f"{_number(adapter.wins, 'right answer')}, {adapter.loses} rejected"
    if adapter.source:
        made_of = adapter.source.capitalize()
    made_of += f" · on top of {parent}"
    if adapter.steps and adapter.seconds is not None:
        made_of += f" · {_number(adapter.steps, 'step')}, {adapter.seconds:.1f} s"
    if adapter.drift is not None:
        made_of += f" · {_percent(adapter.drift)} % of the words in other answers changed"
    buttons = ""
    if adapter.status == "live":
        buttons = f'<button type="button" class="sm" data-do="roll_back">{UNDO}</button>'
    elif adapter.status == "rolled_back":
        buttons = (
            f'<button type="button" class="sm" data-do="restore" data-version="{adapter.version}" '
            f'aria-label="Restore v{adapter.version}">Restore</button>'
        )
    if adapter.status != "pruned":
        label, hint = ("Unpin", "no longer keep") if adapter.pinned else ("Pin", "never delete")
        buttons += (
            f'<button type="button" class="sm" data-do="pin" data-version="{adapter.version}" '
            f'data-pinned="{str(not adapter.pinned).lower()}" '
            f'aria-label="{label}: {hint} v{adapter.version}">{label}</button>'
        )
    pinned = _pill("pinned", "pinned", "Never deleted to save space.") if adapter.pinned else ""
    summary = f"<p>{escape(adapter.summary)}</p>" if adapter.summary else ""
    return (
        f'<li class="entry"><header><h4>v{adapter.version}</h4>'
        f'<span class="pills">{pinned}{_pill(adapter.status, word, meaning)}</span></header>{summary}'
        f"<footer><p>{made_of} · {_time(adapter.created_at_utc)}</p>"
        f'<div class="buttons">{buttons}</div></footer></li>'
    )


def adapters_html(adapters: Sequence[AdapterView], count: int = PAGE_LENGTH) -> str:
    """The first `count` versions, each with its buttons."""
    shown = "".join(map(_adapter, adapters[:count]))
    listed = f"<ul>{shown}</ul>{MORE if len(adapters) > count else ''}" if adapters else NO_ADAPTERS
    return (
        '<section class="card"><header><h3>Versions</h3></header>'
        '<p class="detail">The adapter is the small part of the model that learns. Each training that passes its checks '
        f"makes a new version. Old versions are deleted in time; pinned ones stay.</p>{listed}</section>"
    )


def _percent(share: float) -> str:
    """`0`, `less than 0.1`, `5.7`."""
    if not share:
        return "0"
    return f"{100 * share:.1f}" if share >= 0.001 else "less than 0.1"
