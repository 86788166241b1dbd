"""The list of conversations as HTML. Pure; every title is escaped. assets/conversations.js hears its buttons."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from html import escape
from itertools import groupby

from services.views import ConversationView
from ui.long_lists import MORE, PAGE_LENGTH
from ui.theme.icons import icon

NONE_YET = '<p class="none">Your conversations will appear here.</p>'
NONE_FOUND = '<p class="none">No conversation contains these words. Use fewer or other words.</p>'


def list_html(
    conversations: Sequence[ConversationView],
    shown: str | None,
    search: str = "",
    count: int = PAGE_LENGTH,
    today: date | None = None,
) -> str:
    """The first `count` conversations under headings of days, the shown one marked. `today` is the server's day unless given."""
    if not conversations:
        return NONE_FOUND if search.strip() else NONE_YET
    day = today or datetime.now().date()
    days = "".join(
        f"<h3>{heading}</h3><ul>{''.join(_item(c, c.id == shown) for c in group)}</ul>"
        for heading, group in groupby(conversations[:count], lambda c: _heading(c.created_at_utc, day))
    )
    return days + (MORE if len(conversations) > count else "")


def _heading(created_at_utc: str, today: date) -> str:
    moment = datetime.fromisoformat(created_at_utc)
    day = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone().date()
    if day >= today:
        return "Today"
    if day == today - timedelta(days=1):
        return "Yesterday"
    if day > today - timedelta(days=7):
        return "Last 7 days"
    if day > today - timedelta(days=30):
        return "Last 30 days"
    return f"{day:%B %Y}"


def _item(conversation: ConversationView, is_shown: bool) -> str:
    title = escape(conversation.title)
    current = ' aria-current="true"' if is_shown else ""
    return (
        f'<li data-id="{escape(conversation.id)}" data-title="{title}"{" class=shown" if is_shown else ""}>'
        f'<button type="button" class="title" data-do="open"{current} title="{title}">{title}</button>'
        f'<button type="button" class="tool" data-do="rename" aria-label="Rename: {title}">{icon("edit")}</button>'
        f'<button type="button" class="tool" data-do="delete" aria-label="Delete: {title}">{icon("delete")}</button></li>'
    )
