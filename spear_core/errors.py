"""What can go wrong in the learning core, as one tree. Each message is a line that says what to do about it."""

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


class PromptTooLong(SpearError):
    """Not even the end of the last message fits into the tokens that are left."""
