"""Words that several parts of the page use: durations, counts, versions. Pure."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """As a person says it: `a few seconds`, `40 seconds`, `5 minutes`."""
    if seconds < 8:
        return "a few seconds"
    if seconds < 90:
        return f"{5 * round(seconds / 5)} seconds"
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 90 else f"{round(minutes / 60)} hours"


def counted(number: int, thing: str) -> str:
    """`1 round`, `2 rounds`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def version_name(version: int) -> str:
    return f"v{version}" if version else "the base model"
