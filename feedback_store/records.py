"""The store's rows as frozen dataclasses. They refuse impossible values; no other behaviour, no SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from feedback_store.errors import StoreError
from feedback_store.figures import ProofRecord, RoundFigures

Role = Literal["system", "user", "assistant"]
# `default`: a system message that the conversation did not choose itself
Kind = Literal["message", "revision", "edit", "default"]
# `declined`: a correction that the person does not want learned
Verdict = Literal["better", "still_wrong", "declined"]
# How a reply ended: by the model's own end token, at the longest reply allowed, stopped by the reader, or with its stream
# (the reader's connection broke, the process ended, or the computation failed)
Ending = Literal["ended", "length", "stopped", "lost"]
Side = Literal["win", "lose"]  # a completion to raise, or to lower
Source = Literal["liked", "confirmed", "edited", "unfixed", "no_hint", "judged", "relapse"]
TraceStatus = Literal["pending", "claimed", "trained", "withdrawn", "rolled_back", "skipped"]
RoundEnd = Literal["promoted", "discarded", "skipped", "interrupted"]
RoundStatus = Literal["running", RoundEnd]
AdapterStatus = Literal["kept", "rolled_back", "pruned"]

ROLES: tuple[Role, ...] = get_args(Role)
KINDS: tuple[Kind, ...] = get_args(Kind)
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
ENDINGS: tuple[Ending, ...] = get_args(Ending)
SIDES: tuple[Side, ...] = get_args(Side)
SOURCES: tuple[Source, ...] = get_args(Source)
ROUND_ENDS: tuple[RoundEnd, ...] = get_args(RoundEnd)


def require(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise StoreError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise StoreError(f"{name} {value!r} is not one of {', '.join(map(repr, allowed))}")


ELSEWHERE = -1  # as the adapter version of a message that was imported with a history
FROM_MEMORY = -2  # as the adapter version of an answer given as it was confirmed, where the adapter does not give it


@dataclass(frozen=True)
class Conversation:
    """A conversation of one user."""

    id: str
    title: str
    learn: bool  # False: "don't learn from this chat"
    created_at_utc: str
    user: str  # name of the user; empty where the instance has no logins


@dataclass(frozen=True)
class LoginSession:
    """One login of one browser; `stamp` changes with the account's password."""

    id_sha256: str
    user: str  # the account's id
    stamp: str
    expires_at_utc: str


@dataclass(frozen=True)
class Message:
    """A question, a reply, a revision or an edit."""

    id: str
    conversation_id: str
    position: int  # 0, 1, 2... in the conversation
    role: Role
    kind: Kind
    text: str
    parent_id: str | None  # of a reply the question; of a question the first reply that it follows
    revises_id: str | None  # the first reply, of a revision or edit
    hint: str | None  # the hint that led to this revision
    verdict: Verdict | None  # None while open
    adapter_version: int  # 0: the base model; also ELSEWHERE and FROM_MEMORY
    complete: bool  # False while the reply streams
    created_at_utc: str
    ending: Ending | None = None  # None where it is not known, or the model did not write the message
    corrects_id: str | None = None  # the first reply that the message before this reply corrected
    tokens: int | None = None  # written by the model; None where it is not known
    seconds: float | None = None  # from the first token to the last

    @property
    def is_cut(self) -> bool:
        """Whether the reply did not end by itself, so that its end must not be learned."""
        return self.ending is not None and self.ending != "ended"


@dataclass(frozen=True)
class Hint:
    """What a person said about a wrong reply."""

    id: int
    message_id: str
    text: str
    created_at_utc: str


@dataclass(frozen=True)
class Event:
    """One line of the append-only log. `message_id` is None, and `data` empty, once its conversation was deleted."""

    id: int
    kind: str  # vote | hint | verdict | edit, and what callers add
    message_id: str | None
    data: dict[str, Any]
    created_at_utc: str


@dataclass(frozen=True)
class NewTrace:
    """One training trace to be stored: a completion to raise (win) or lower (lose), given the prompt alone.

    Raises StoreError for an unknown side or source, or a confidence outside (0, 1].
    """

    side: Side
    conversation_id: str
    message_id: str  # the reply or edit whose text the completion is
    subject_id: str  # the first reply y0, which the feedback is about
    prompt: list[dict[str, str]]  # chat messages: role, content
    completion: str
    confidence: float  # (0, 1]; 1.0 for feedback of a person
    source: Source
    base: str  # fingerprint of the base model

    def __post_init__(self) -> None:
        require("side", self.side, SIDES)
        require("source", self.source, SOURCES)
        if not 0.0 < self.confidence <= 1.0:
            raise StoreError(f"confidence {self.confidence!r} is not in (0, 1]")


@dataclass(frozen=True)
class Trace:
    """A stored trace. The three message references are None once the conversation was deleted."""

    id: str
    side: Side
    conversation_id: str | None
    message_id: str | None
    subject_id: str | None
    prompt: list[dict[str, str]]
    completion: str
    confidence: float
    source: Source
    status: TraceStatus
    round_id: int | None  # the round that claimed it last
    base: str
    created_at_utc: str
    seq: int = 0  # order in which they were stored, which a clock that is set back does not change


@dataclass(frozen=True)
class Round:
    """A learning round: what it trained on and how it ended."""

    id: int
    base: str
    status: RoundStatus
    started_at_utc: str
    finished_at_utc: str | None
    adapter_version: int | None  # of the adapter it made, when promoted
    parent_version: int
    wins: int  # claimed at the start
    loses: int
    replayed: int
    figures: RoundFigures
    verdict: str
    proof: ProofRecord | None


@dataclass(frozen=True)
class NewAdapter:
    """An adapter to be stored with the round or merge that made it."""

    base: str
    version: int  # 1, 2, 3... per base; 0 is the bare base model and is never stored
    parent_version: int
    folder: str  # relative to the data folder
    sha256: str
    figures: RoundFigures = RoundFigures()


@dataclass(frozen=True)
class Adapter:
    """A stored adapter."""

    base: str
    version: int
    parent_version: int
    folder: str
    sha256: str
    round_id: int | None  # None: of a merge, a consolidation or an upload
    status: AdapterStatus
    pinned: bool
    figures: RoundFigures
    created_at_utc: str


@dataclass(frozen=True)
class Peer:
    """An approved peer. `etag`, `seen_round` and `seen_created_at` name the newest update taken from it."""

    key: str  # public key, url-safe base64
    name: str
    url: str  # empty where its address is not known
    approved_at_utc: str
    seen_round: int | None
    seen_created_at: int | None  # seconds since 1970, by the peer's clock
    etag: str
    pushed_etag: str  # of the newest update of this instance that it has
    failures: int  # in a row
    contact_at_utc: str | None
    words: str  # how the last contact went
