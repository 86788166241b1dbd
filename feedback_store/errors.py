"""Exceptions of the store, in one tree. Every message is a sentence that says what to do."""

from __future__ import annotations


class StoreError(Exception):
    """Base of everything the store raises; raised itself for a request the store refuses."""


class RecordRefused(StoreError):
    """One of several records that were to be stored together; none of them was. `index` counts from 0."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"record {index + 1}: {reason}; nothing was imported")
        self.index = index
        self.reason = reason


class UnknownRecord(StoreError):
    """An id, round number or adapter version that is not in the store."""


class TracesWithdrawn(StoreError):
    """A round is to be promoted although the person took back feedback that it was trained on."""


class StoreUnavailable(StoreError):
    """The file cannot be opened, written or locked now; its content may be fine."""


class StoreCorrupt(StoreError):
    """The file is not a database of ours, or it is damaged."""
