"""What can go wrong in the store, as one exception tree. Every message is a sentence a person can act on."""

from __future__ import annotations


class StoreError(Exception):
    """Base of everything the store raises; raised itself for a request the store refuses."""


class UnknownRecord(StoreError):
    """An id, round number or adapter version that is not in the store."""


class TracesWithdrawn(StoreError):
    """A round is to be promoted although the person took back feedback that it was trained on."""


class StoreUnavailable(StoreError):
    """The file cannot be opened, written or locked now; its content may be fine."""


class StoreCorrupt(StoreError):
    """The file is not a database of ours, or it is damaged."""
