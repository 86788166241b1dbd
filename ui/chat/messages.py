"""Renders MessageViews as the rows of the chat. Pure functions; every word of a person or a model is escaped.

A row is HTML with its key, so that the page redraws only what changed; buttons say in `data-` attributes what they do
and to which message, and assets/chat.js turns their clicks into events.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from services.views import ELSEWHERE, FROM_MEMORY, MessageView
from ui.chat.markdown import render
from ui.theme.icons import icon

BETTER, STILL_WRONG = "better", "still_wrong"
OPTION_LABELS = {BETTER: "Better", STILL_WRONG: "Still wrong"}
_VERDICTS = {BETTER: 1, STILL_WRONG: -1}
_REVISION_TAGS = {BETTER: "Revision · confirmed", STILL_WRONG: "Revision · still wrong"}
CACHED_ROWS = 4096
# What the page says of a reply that did not end by itself; from none of these the model learns to end a reply
CUT = {
    "length": "Cut off at the longest reply allowed.",
    "stopped": "Stopped before its end.",
    "lost": "Interrupted before its end.",
}
NOT_ANSWERED = "<p>(no answer yet)</p>"  # its longest reply was spent on thinking
YES, NO = "yes", "no"
CONFIRMED = "You confirmed this correction."
NOT_LEARNED = "Nothing is learned from it until it is complete."
WRITING = '<p class="writing"><span class="dot"></span><span class="sr">The reply is being written</span></p>'


def _button(do: str, message_id: str, label: str, drawn: str, **data: object) -> str:
    more = "".join(f' data-{name}="{html.escape(str(value))}"' for name, value in data.items())
    return (
        f'<button type="button" class="tool" data-do="{do}" data-id="{html.escape(message_id)}"{more} '
        f'aria-label="{html.escape(label)}" title="{html.escape(label)}">{drawn}</button>'
    )


def _versions(message: MessageView) -> str:
    """Earlier and later versions of this question or reply: the branches of the conversation."""
    if len(message.versions) < 2 or message.id not in message.versions:
        return ""
    at = message.versions.index(message.id)
    what = "reply" if message.role == "assistant" else "question"

    def arrow(step: int, label: str, name: str) -> str:
        if not 0 <= at + step < len(message.versions):
            return f'<button type="button" class="tool" disabled aria-label="{label}">{icon(name)}</button>'
        return _button("branch", message.versions[at + step], label, icon(name))

    return (
        f'<span class="versions">{arrow(-1, f"Earlier version of this {what}", "left")}'
        f"<span>{at + 1}/{len(message.versions)}</span>{arrow(1, f'Later version of this {what}', 'right')}</span>"
    )


def _thumbs(message: MessageView) -> str:
    vote = _VERDICTS.get(message.verdict or "", message.vote)
    up = _button(
        "vote", message.id, "Liked" if vote == 1 else "Like", icon("up", vote == 1), value=0 if vote == 1 else 1
    )
    down = _button(
        "vote",
        message.id,
        "Disliked" if vote == -1 else "Dislike",
        icon("down", vote == -1),
        value=0 if vote == -1 else -1,
    )
    return up + down


def _verdict(message: MessageView) -> str:
    """What may be said about a revision that waits for a verdict, or done about a reply that is wrong so far."""
    offered = [("judge", verdict, label) for verdict, label in OPTION_LABELS.items() if message.can_be_judged]
    if message.can_be_hinted:
        offered.append(("more", "hint", "Give a hint"))
    if message.can_be_written:
        offered.append(("more", "edit", "Write it myself"))
    buttons = "".join(
        f'<button type="button" class="sm{" primary" if value == BETTER else ""}" data-do="{do}" '
        f'data-id="{html.escape(message.id)}" data-value="{value}">{label}</button>'
        for do, value, label in offered
    )
    return f'<div class="verdict">{buttons}</div>' if buttons else ""


def _tag(message: MessageView) -> str:
    """The line above a reply that is not a first answer."""
    words = {"revision": _REVISION_TAGS.get(message.verdict or "", "Revision"), "edit": "Your wording"}.get(
        message.kind
    )
    return f'<p class="tag">{words}</p>' if words else ""


def _cut(message: MessageView) -> str:
    """The line under a reply that did not end by itself, and the button that continues it."""
    if not message.complete or message.ending not in CUT:
        return ""
    button = ""
    if message.can_go_on:
        button = (
            f'<button type="button" class="sm" data-do="go_on" data-id="{html.escape(message.id)}">Continue</button>'
        )
    return f'<p class="cut" role="note"><span>{CUT[message.ending]} {NOT_LEARNED}</span>{button}</p>'


def details(message: MessageView) -> str:
    """What is known of how a reply was written, in sentences."""
    said = []
    if message.tokens:
        speed = (message.tokens - 1) / message.seconds if message.seconds else 0.0
        said.append(f"{message.tokens:,} tokens{f', {speed:.1f} a second' if speed else ''}.")
    if message.ending and message.adapter_version >= 0:
        said.append(CUT.get(message.ending, "The model ended the reply itself."))
    if message.adapter_version > 0:
        said.append(f"Written by v{message.adapter_version}.")
    elif message.adapter_version == 0:
        said.append("Written by the base model.")
    else:
        said.append(f"{_made_by(message.adapter_version)[1]}.")
    return " ".join(said)


def _learn(message: MessageView) -> str:
    """The line under a reply to a correction: whether it is to be learned, or that it is."""
    if message.can_be_learned:
        buttons = "".join(
            f'<button type="button" class="sm" data-do="learn" data-id="{html.escape(message.id)}" '
            f'data-value="{value}" aria-label="{label}">{word}</button>'
            for value, word, label in ((YES, "Yes", "Yes, learn this"), (NO, "No", "No, do not learn this"))
        )
        return f'<p class="learn" role="note"><span>Learn this?</span>{buttons}</p>'
    if message.corrects and message.verdict == BETTER:
        return f'<p class="learn" role="note"><span>{CONFIRMED}</span></p>'
    return ""


def _question(message: MessageView) -> str:
    tools = ""
    if message.id:
        tools = _versions(message) + _button("copy", message.id, "Copy", icon("copy"))
        tools += _button("rewrite", message.id, "Change and send again", icon("edit"))
    return (
        f'<article class="msg user"><div class="words" data-testid="user">{html.escape(message.text)}</div>'
        f'<footer class="tools">{tools}</footer></article>'
    )


def _thought(message: MessageView) -> str:
    """What the model thought before it answered, folded away."""
    if not message.thought:
        return ""
    is_thinking = not message.complete and not message.text
    return (
        f'<details class="thought"><summary>{"Thinking" if is_thinking else "Thoughts"}</summary>'
        f'<div class="words">{render(message.thought)}</div></details>'
    )


def _reply(message: MessageView) -> str:
    none = NOT_ANSWERED if message.thought else "<p>(empty reply)</p>"
    words = render(message.text) if message.text else (none if message.complete else WRITING)
    tools = ""
    told = ""
    if message.complete and message.id:
        is_judged_now = message.can_be_judged
        if message.kind != "edit" and not is_judged_now:
            tools += _thumbs(message)
        tools += _button("copy", message.id, "Copy", icon("copy"))
        if message.kind == "message":
            tools += _button("again", message.id, "Answer again", icon("again"))
            tools += _button("compare", message.id, "Compare with and without what was learned", icon("compare"))
        tools += _versions(message)
        if message.kind != "edit":
            tools += _button("details", message.id, "Details", icon("details"))
            told = f'<p class="details" hidden>{html.escape(details(message))}</p>'
            made_by, title = _made_by(message.adapter_version)
            memory = " memory" if message.adapter_version == FROM_MEMORY else ""  # shown without pointing at the reply
            tools += f'<span class="made-by{memory}" title="{title}">{made_by}</span>'
        note = f'<p class="note">{html.escape(message.note)}</p>' if message.note else ""
        tools = f'{note}{_cut(message)}{_learn(message)}{_verdict(message)}<footer class="tools">{tools}</footer>{told}'
    return (
        f'<article class="msg bot {html.escape(message.kind)}"><div data-testid="bot">{_tag(message)}'
        f'{_thought(message)}<div class="words">{words}</div></div>{tools}</article>'
    )


def _made_by(version: int) -> tuple[str, str]:
    """What made a reply, and what that means."""
    if version == FROM_MEMORY:
        return "from memory", "The answer as it was confirmed: the model has not learned it yet, or no longer gives it"
    if version == ELSEWHERE:
        return "another client", "Written by another program; it came with the conversation"
    return f"v{version}" if version else "base model", "The version that wrote this reply"


@lru_cache(maxsize=CACHED_ROWS)
def row(message: MessageView) -> str:
    """One message as HTML."""
    return _question(message) if message.role == "user" else _reply(message)


def _rows(messages: Sequence[MessageView]) -> list[dict[str, str]]:
    return [
        {"key": message.id or f"coming-{i}", "html": row(message), "text": message.text}
        for i, message in enumerate(messages)
    ]


def _state(rows: Sequence[dict[str, str]]) -> str:
    """Names what rows show, so that page and server can tell whether they speak of the same."""
    return f"{hash(tuple((r['key'], r['html']) for r in rows)) & (1 << 64) - 1:016x}"


def chat_value(
    messages: Sequence[MessageView], conversation_id: str | None = None, invitation: str = ""
) -> dict[str, Any]:
    """What the chat component shows: the rows in order with their keys, and whether one is still being written.

    `invitation` is HTML that an empty conversation shows.
    """
    rows = _rows(messages)
    return {
        "of": conversation_id or "",
        "empty": "" if messages else invitation,
        "busy": any(not message.complete for message in messages),
        "rows": rows,
        "state": _state(rows),
    }


def chat_change(
    before: Sequence[MessageView], messages: Sequence[MessageView], conversation_id: str | None
) -> dict[str, Any]:
    """What the chat component shows, as the rows that differ from `before`: five hundred others need not travel.

    `after` names the state that this builds on; a page that shows another one asks for the whole (event `whole`). The
    whole value where rows came or went.
    """
    value = chat_value(messages, conversation_id)
    old = _rows(before)
    if [r["key"] for r in old] != [r["key"] for r in value["rows"]]:
        return value
    changed = [new for was, new in zip(old, value["rows"], strict=True) if was != new]
    return {**value, "rows": changed, "after": _state(old)}


def find(messages: Sequence[MessageView], message_id: str | None) -> MessageView | None:
    return next((message for message in messages if message.id == message_id), None)


def quote(text: str, limit: int = 160) -> str:
    """The reply as the hint box quotes it: one escaped block, shortened."""
    short = text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
    return f"<blockquote>{html.escape(short)}</blockquote>"
