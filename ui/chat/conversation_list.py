"""The list of conversations as HTML. Pure; every title is escaped. assets/conversations.js hears its buttons."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from services.views import ConversationView
from ui.theme.icons import icon

NONE_YET = '<p class="none">Your conversations will stand here.</p>'
NONE_FOUND = '<p class="none">Nothing was said like that. Try fewer or other words.</p>'


def list_html(conversations: Sequence[ConversationView], shown: str | None, search: str = "") -> str:
    """Newest first, the shown one marked."""
    if not conversations:
        return NONE_FOUND if search.strip() else NONE_YET
    return f"<ul>{''.join(_item(c, c.id == shown) for c in conversations)}</ul>"


def _item(conversation: ConversationView, is_shown: bool) -> str:
    title = escape(conversation.title)
    current = ' aria-current="true"' if is_shown else ""
    return (
        f'<li data-id="{escape(conversation.id)}" data-title="{title}"{" class=shown" if is_shown else ""}>'
        f'<button type="button" class="title" data-do="open"{current} title="{title}">{title}</button>'
        f'<button type="button" class="tool" data-do="rename" aria-label="Rename: {title}">{icon("edit")}</button>'
        f'<button type="button" class="tool" data-do="delete" aria-label="Delete: {title}">{icon("delete")}</button></li>'
    )
