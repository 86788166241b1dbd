"""Case folding for search, in any script. Pure functions."""

from __future__ import annotations

import unicodedata


def folded(text: str) -> str | None:
    """The case-folded form of a text that is not plain ASCII; None for one that is, which SQLite folds by itself."""
    return None if text.isascii() else unicodedata.normalize("NFC", text).casefold()
