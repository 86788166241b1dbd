"""The storage of the app: one SQLite file through sqlite-utils. No torch, no UI, no HTTP."""

from feedback_store.errors import StoreCorrupt, StoreError, StoreUnavailable, TracesWithdrawn, UnknownRecord
from feedback_store.figures import (
    ChangedAnswerRecord,
    GateRecord,
    MeasureSummary,
    MergeRecord,
    ProofRecord,
    RoundFigures,
)
from feedback_store.records import (
    ELSEWHERE,
    FROM_MEMORY,
    Adapter,
    Conversation,
    Event,
    Hint,
    LoginSession,
    Message,
    NewAdapter,
    NewTrace,
    Peer,
    Round,
    Trace,
)
from feedback_store.store import Store
from feedback_store.user_store import UserStore

__all__ = [
    "ELSEWHERE",
    "FROM_MEMORY",
    "Adapter",
    "ChangedAnswerRecord",
    "Conversation",
    "Event",
    "GateRecord",
    "Hint",
    "LoginSession",
    "MeasureSummary",
    "MergeRecord",
    "Message",
    "NewAdapter",
    "NewTrace",
    "Peer",
    "ProofRecord",
    "Round",
    "RoundFigures",
    "Store",
    "StoreCorrupt",
    "StoreError",
    "StoreUnavailable",
    "Trace",
    "TracesWithdrawn",
    "UnknownRecord",
    "UserStore",
]
