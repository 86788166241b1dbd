"""The page's scripts and styles, read from assets/. No script of another host."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parents[2] / "assets"
STYLES = [
    ASSETS / name for name in ("page.css", "chat.css", "learning.css", "panels.css", "federation.css", "access.css")
]


def script(name: str) -> str:
    """The text of assets/<name>.js."""
    return (ASSETS / f"{name}.js").read_text(encoding="utf-8")
