"""Exceptions of the learning core, in one tree. Each message is one sentence that says what to do."""

from __future__ import annotations


class SpearError(Exception):
    """Root of every error that this package raises on purpose; the user interface shows its message as it is."""


class ConfigError(SpearError):
    """A setting that is unknown, of the wrong kind or out of range; the message names it and what is allowed."""


class ModelUnavailable(SpearError):
    """The base model cannot be loaded; the message is one line with the remedy."""


class TrainingFailed(SpearError):
    """A learning round could not be carried through; the adapter that was live before stays live."""


class AdapterInvalid(SpearError):
    """An adapter that does not fit the model, is damaged, or holds values that are not finite."""


class OutOfMemory(SpearError):
    """There was no memory for what was asked; smaller things still work."""


class AdapterUnwritable(SpearError):
    """A new adapter cannot be written to the disk; what was there is as it was, and the same may succeed later."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python or torch found no memory: torch says so by a RuntimeError, on CPU one like any other."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said)
    )


def one_line(error: BaseException) -> str:
    """An error's text, on one line and short enough to stand inside another message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


class PromptTooLong(SpearError):
    """Not even the end of the last message fits into the tokens that are left."""
