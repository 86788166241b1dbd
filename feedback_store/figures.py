"""What a round measured and showed, as dataclasses over the JSON of the columns `figures` and `proof`. No SQL, no torch.

A field is None where nothing was measured, where the number was infinite or no number, or where the version that wrote the
row did not know it yet; None is not written. Keys that no field stands for are passed over.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

log = logging.getLogger(__name__)
EARLIER = "earlier"  # kind of a changed answer: to a correction of an earlier round


@dataclass(frozen=True)
class ChangedAnswerRecord:
    """A question that a round did not correct, and its answers before and after."""

    kind: str = ""  # neighbour | recent | earlier | a kind of starter question
    question: str = ""
    before: str = ""
    after: str = ""
    leaks: bool = False  # it gives an answer that was taught for another question


@dataclass(frozen=True)
class GateRecord:
    """The gate's reason, and the counts that it rests on."""

    reason: str | None = None
    confirmed: int | None = None
    learned: int | None = None
    older: int | None = None  # earlier confirmations that held before
    lost: int | None = None  # of them, those that no longer do
    checked: int | None = None  # answers to questions that were not corrected
    # of those checked and of those lost; None also where the quotations were erased
    changed: tuple[ChangedAnswerRecord, ...] | None = None
    neighbours: int | None = None  # of those checked: questions like the corrected ones
    leaks: int | None = None
    changed_from_base: int | None = None
    words_changed: float | None = None  # share, 0 to 1
    kind: str | None = None  # of question, where one kind is the reason


@dataclass(frozen=True)
class MeasureSummary:
    """One measurement of an adapter. Log-probabilities are means per token, in nats; KL divergences in nats."""

    win_logp: float | None = None
    rejected_p: float | None = None
    learned: int | None = None
    confirmed: int | None = None
    older_held: int | None = None
    older: int | None = None
    older_nll: float | None = None
    probe_kl: float | None = None
    worst_probe_kl: float | None = None
    probe_changed: float | None = None  # share, 0 to 1
    answers_changed: int | None = None
    answers: int | None = None
    leaks: int | None = None


@dataclass(frozen=True)
class MergeRecord:
    """How an adapter was made of several; of a consolidation only its summary in words."""

    words: str = ""
    method: str | None = None
    weights: dict[str, float] | None = None  # by the peer's key
    kept: dict[str, float] | None = None  # share of each peer's difference that clipping left
    residual: float | None = None  # relative to the product, of the method `exact`


@dataclass(frozen=True)
class RoundFigures:
    """What is recorded of a round, a merge or an upload, and of the adapter it made."""

    steps: int | None = None
    attempts: int | None = None
    learned: bool | None = None  # every answer that a person confirmed is given when asked again
    skipped: bool | None = None
    win_loss: float | None = None  # losses and divergences are means over the steps
    lose_loss: float | None = None
    anchor_kl: float | None = None
    neighbour_kl: float | None = None
    seconds: float | None = None  # of the last training
    round_seconds: float | None = None  # of the round with its checks
    learning_seconds: float | None = None  # of the round and of what is made for it beforehand
    seconds_to_live: float | None = None  # from the newest feedback in it to the new version
    peak_bytes: int | None = None  # of the process
    before: MeasureSummary | None = None
    after: MeasureSummary | None = None
    gate: GateRecord | None = None
    # ids of the messages whose hints became preferences of style; "" where an earlier version had stored the words
    style_preferences: Annotated[tuple[str, ...] | None, Field(alias="wishes")] = None
    source: str | None = None  # of an adapter that no round made: uploaded | consolidated; None: merged
    merge: MergeRecord | None = None

    def without_quotations(self) -> RoundFigures:
        """The same without questions and answers: an adapter's folder may be given to others."""
        return self if self.gate is None else replace(self, gate=replace(self.gate, changed=None))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without those that are None, infinite or no number."""
        return dict(_finite(_FIGURES.dump_python(self, by_alias=True, exclude_none=True)))


@dataclass(frozen=True)
class ProofRecord:
    """A corrected question with its answers before and after the round."""

    prompt: str
    before: str
    after: str
    was_seen: bool = False  # `before` is the reply that was corrected; else the greedy answer of the version before
    conversation_id: str = ""  # where it was corrected; "" where that is not known

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(_PROOF.dump_python(self))


_FIGURES = TypeAdapter(RoundFigures)
_PROOF = TypeAdapter(ProofRecord)


def _finite(value: Any) -> Any:
    """The value without numbers that JSON does not have: SQLite would refuse the row of a round that broke the weights."""
    if isinstance(value, dict):
        kept = {key: _finite(of_key) for key, of_key in value.items()}
        return {key: of_key for key, of_key in kept.items() if of_key is not None}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_figures(text: str) -> RoundFigures:
    """The figures in a row's JSON. A row that does not hold figures at all is logged, and has none."""
    try:
        return _FIGURES.validate_python(json.loads(text))
    except ValidationError as e:
        log.warning("the figures of a stored round cannot be read and are left out: %s", e)
        return RoundFigures()


def read_proof(text: str) -> ProofRecord | None:
    """The proof in a row's JSON; None where there is none, or none that can be read."""
    found = json.loads(text)
    try:
        return None if found is None else _PROOF.validate_python(found)
    except ValidationError as e:
        log.warning("the proof of a stored round cannot be read and is left out: %s", e)
        return None
