"""The page's icons as inline SVG, drawn in the colour of the words around them. No pictures are fetched."""

from __future__ import annotations

# name -> the path inside a 24 by 24 box, drawn as a line
_PATHS = {
    "up": "M7 11v9H4v-9zM7 11l4-8a2 2 0 0 1 2.5 2.4L13 9h5.5a2 2 0 0 1 2 2.4l-1.3 7a2 2 0 0 1-2 1.6H7",
    "down": "M7 13V4H4v9zM7 13l4 8a2 2 0 0 0 2.5-2.4L13 15h5.5a2 2 0 0 0 2-2.4l-1.3-7a2 2 0 0 0-2-1.6H7",
    "copy": "M9 9h11v11H9zM5 15H4V4h11v1",
    "edit": "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
    "again": "M20 11a8 8 0 1 0-2.3 6.3M20 4v7h-7",
    "compare": "M12 3v18M4 6h5v12H4zM15 6h5v12h-5",
    "details": "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 11v5M12 8v.5",
    "left": "M15 5l-7 7 7 7",
    "right": "M9 5l7 7-7 7",
    "delete": "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
    "close": "M6 6l12 12M18 6L6 18",
    "light": "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6L19 19M19 5l-1.4 1.4M6.4 17.6L5 19",
}


def icon(name: str, filled: bool = False) -> str:
    """An icon that a screen reader passes over: the button around it has the label."""
    return (
        f'<svg viewBox="0 0 24 24" width="17" height="17" aria-hidden="true" fill="{"currentColor" if filled else "none"}" '
        'stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round">'
        f'<path d="{_PATHS[name]}"/></svg>'
    )
