"""Views: what the services return for display. Frozen, without behaviour, database rows or tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from feedback_store import ELSEWHERE as ELSEWHERE
from feedback_store import FROM_MEMORY as FROM_MEMORY
from feedback_store.figures import EARLIER as EARLIER
from feedback_store.records import AdapterStatus, Ending, Kind, Role, Source, Verdict

Phase = Literal[
    "idle", "waiting", "queued", "training", "checking", "merging", "live", "not_kept", "undone", "paused", "failed"
]
LearnedStatus = Literal["waiting", "learned", "undone", "not kept", "withdrawn", "no answer"]
VersionStatus = Literal["live", AdapterStatus]
DemoPhase = Literal["idle", "preparing", "running", "paused", "done", "failed"]


@dataclass(frozen=True)
class ConversationView:
    """A conversation in the list."""

    id: str
    title: str
    learn: bool  # False: "don't learn from this chat"
    created_at_utc: str


@dataclass(frozen=True)
class MessageView:
    """One message. A revision is an assistant message of kind `revision` that `revises` an earlier reply."""

    id: str
    conversation_id: str
    role: Role
    kind: Kind
    text: str  # of a thinking model's reply the answer alone
    thought: str = ""  # what the model thought before it answered
    vote: int = 0  # 1 up, -1 down, 0 none
    revises: str | None = None  # id of the first reply, which this revision or edit is meant to replace
    hint: str | None = None  # the hint that led to this revision
    verdict: Verdict | None = None  # None while open
    corrects: str | None = None  # id of the first reply that the message before this reply corrected
    can_be_learned: bool = False  # ask under it whether that correction is to be learned
    can_be_judged: bool = False  # show Better / Still wrong under it
    can_be_hinted: bool = False  # it is wrong so far, and the model may try once more
    can_be_written: bool = False  # it is wrong so far: the person may write the right answer
    note: str = ""  # what became of the correction, where the person should know: a sentence
    adapter_version: int = 0  # 0: the base model without any adapter; also ELSEWHERE and FROM_MEMORY
    created_at_utc: str = ""  # ISO time; empty where the message is not stored
    complete: bool = True  # False while the reply streams
    ending: Ending | Literal[""] = ""  # empty where it is not known, or nothing of the model's
    tokens: int | None = None  # that the model wrote here; None where it is not known
    seconds: float | None = None  # from the first of them to the last
    can_go_on: bool = False  # it was cut off, and is the last reply shown
    versions: tuple[str, ...] = ()  # ids of all versions of this question or reply, oldest first, itself included


@dataclass(frozen=True)
class QueuedCorrection:
    """A right answer that is being trained, or waits for it. Without words where it is another user's."""

    message_id: str  # the reply that it is about
    question: str
    right: str
    is_training: bool = False


@dataclass(frozen=True)
class Forgotten:
    """What a forgetting did to the present base model."""

    undone: tuple[int, ...] = ()  # versions that had learned from the feedback, or stood on one that had
    version: int = 0  # what answers now
    rounds: int = 0  # that are trained again without the feedback


@dataclass(frozen=True)
class Proof:
    """The corrected prompt: the reply that the person saw, and the greedy answer of the adapter after the round."""

    prompt: str
    before: str
    after: str
    before_version: int
    after_version: int
    conversation_id: str = ""  # where it was corrected
    was_seen: bool = False  # `before` is the reply that was corrected; else the greedy answer of the version before


@dataclass(frozen=True)
class ChangedAnswerView:
    """An answer that the last round changed and that was not corrected then."""

    question: str
    before: str
    after: str
    kind: str  # neighbour | recent | earlier | a kind of starter question
    leaks: bool  # it gives an answer that was taught for another question


@dataclass(frozen=True)
class ContradictionView:
    """Two confirmed answers to (nearly) the same question. The ids are those of the replies, as `forget` takes them."""

    newer_id: str
    newer_question: str
    newer_answer: str
    earlier_id: str
    earlier_question: str
    earlier_answer: str


@dataclass(frozen=True)
class LearningStatus:
    """The status card. `headline` and `detail` are full sentences for a person."""

    phase: Phase
    headline: str
    detail: str
    step: int = 0
    max_steps: int = 0
    adapter_version: int = 0
    seconds: float | None = None  # of the last finished round, from confirmation to live
    proof: Proof | None = None  # of the last promoted round, until it is undone
    can_roll_back: bool = False
    paused: bool = False
    pending_wins: int = 0
    pending_loses: int = 0
    checked: int = 0  # answers to other questions that the last round's check compared with those before it
    changed: tuple[ChangedAnswerView, ...] = ()  # those of them that came out otherwise
    contradiction: ContradictionView | None = None  # two corrections of which the person should choose one
    queue: tuple[QueuedCorrection, ...] = ()  # what is being learned and what waits, in this order
    seconds_left: float | None = None  # until the queue is learned, by what trainings took on this machine
    is_first_estimate: bool = False  # no training has ended here yet: `seconds_left` is by the machine's speed
    progress: float | None = None  # share of the round under way that is over
    undone: int = 0  # the newest version, where it was taken back and may be restored


@dataclass(frozen=True)
class LearnedView:
    """One piece of feedback and what became of it, newest first in lists. `message_id` is what `forget` takes."""

    message_id: str
    question: str
    right: str  # the confirmed answer; empty where only a rejected one is known
    wrong: str  # the rejected answer; empty for a liked reply
    source: Source | Literal[""]  # empty where it is not shown
    status: LearnedStatus
    confidence: float
    created_at_utc: str
    version: int = 0  # of the adapter that learned it; 0: none
    user: str = ""  # who gave it, where that is not the one who looks


@dataclass(frozen=True)
class AdapterView:
    """A version of the adapter."""

    version: int
    parent_version: int
    status: VersionStatus
    created_at_utc: str
    summary: str  # the gate's words
    wins: int = 0
    loses: int = 0
    pinned: bool = False
    source: str = ""  # where it came from, where no round made it
    steps: int = 0
    seconds: float | None = None  # of the round that made it
    drift: float | None = None  # share of words that came out differently in answers without a complaint


@dataclass(frozen=True)
class AnswerView:
    """What one version of the adapter answers; version 0 is the base model."""

    version: int
    text: str


@dataclass(frozen=True)
class DemoTurn:
    """One question of the demonstration, as far as it has come."""

    number: int
    question: str
    reply: str = ""
    right: bool = False
    frozen: str = ""  # the frozen model's answer to the same question
    frozen_right: bool = False
    hint: str = ""  # the last one given
    revision: str = ""
    confirmed: bool = False
    learned: bool = False


@dataclass(frozen=True)
class DemoView:
    """The demonstration at one moment. The exam is questions in wordings that no training text holds."""

    phase: DemoPhase
    total: int = 0  # questions of the run
    now: str = ""  # what happens right now, a sentence
    first_try: tuple[bool, ...] = ()  # of the learning model, question by question
    first_try_frozen: tuple[bool, ...] = ()
    exam: tuple[tuple[int, float], ...] = ()  # (questions asked so far, share of the exam right)
    exam_frozen: float = 0.0
    exam_size: int = 0
    kept: int = 0  # trainings that passed the gate
    refused: int = 0
    turns: tuple[DemoTurn, ...] = ()  # the latest ones, oldest first


@dataclass(frozen=True)
class RoundView:
    """One finished learning round."""

    number: int
    kept: bool
    verdict: str
    seconds: float
    seconds_to_live: float | None
    steps: int
    win_loss: float | None
    lose_loss: float | None
    anchor_kl: float | None


@dataclass(frozen=True)
class ProgressView:
    """Did it learn anything? Replies and rounds, oldest first."""

    first_try: tuple[bool, ...] = ()  # of each first reply that was judged: it was right
    replies: int = 0  # judged or not
    revised: tuple[bool, ...] = ()  # of each reply for which a revision was asked: one was confirmed
    rounds: tuple[RoundView, ...] = ()
    learned: int = 0  # corrections that are part of the adapter that answers
    version: int = 0


@dataclass(frozen=True)
class KnownModel:
    """A base model that was used on this instance."""

    name: str
    versions: int  # adapters it has
    active: int  # the version that answers, 0: the base model
    is_current: bool
    is_built_in: bool = False  # it comes with the app


@dataclass(frozen=True)
class FoundModel:
    """A model that another program keeps on this machine. `problem` says why it cannot be used; empty where it can."""

    name: str  # what `switch` takes
    title: str
    place: str
    size_bytes: int
    needed_bytes: int
    problem: str = ""


@dataclass(frozen=True)
class RecommendedModel:
    """A model on the Hugging Face Hub. `seconds` is what a correction takes on this machine, about."""

    name: str
    licence: str
    words: str
    parameters: int
    download_bytes: int
    needed_bytes: int
    seconds: float
    folder: str = ""  # where it is, once it was downloaded
    has_part: bool = False  # a download of it was broken off and can go on


@dataclass(frozen=True)
class MemoryView:
    """The memory that a model needs and that is free, in bytes."""

    name: str
    parameters: int
    needed_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class ModelView:
    """What the page says about the base model."""

    name: str
    parameters: int
    examples: tuple[str, ...] = field(default=())
