"""Search for words in titles and messages, in any script, as a condition of SQL. Pure functions."""

from __future__ import annotations

from feedback_store.folding import folded

MAX_SOUGHT_CHARACTERS = 1000  # SQLite refuses patterns of more than 50,000 bytes
CONTAINS = """(title LIKE ? ESCAPE '\\' OR title LIKE ? ESCAPE '\\' OR folded LIKE ? ESCAPE '\\' OR EXISTS (
    SELECT 1 FROM messages m WHERE m.conversation_id = conversations.id AND m.role != 'system'
    AND (m.text LIKE ? ESCAPE '\\' OR m.text LIKE ? ESCAPE '\\' OR m.folded LIKE ? ESCAPE '\\')
))"""


def containing(text: str) -> tuple[str, list[str]]:
    """The condition on a row of `conversations` whose title or messages contain a text, whatever its case; its parameters."""
    text = text[:MAX_SOUGHT_CHARACTERS]
    of_folded = _pattern(folded(text) or text.casefold())
    return CONTAINS, [_pattern(text), of_folded, of_folded] * 2


def _pattern(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
