"""Corrections that wait to be learned, and an estimate of the time that takes. Reads the store; trains nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from statistics import median

from feedback_store import Round
from services.engine import Engine
from services.models.recommended import seconds_a_correction
from services.views import QueuedCorrection
from spear_core.models.thoughts import answer_of

LISTED = 20  # corrections shown by name
# Most traces of one round. A round asks all its wins again every few steps, so after a thousand thumbs-up at once the next
# correction would wait for most of an hour
MOST_TRACES = 64
RECENT_ROUNDS = 20  # from which the usual duration is taken
MOST_SHARE = 0.95  # largest share of the progress bar before the round has ended


def usual_seconds(rounds: Sequence[Round]) -> float | None:
    """Median duration of recent rounds in seconds, with what is made for them beforehand; None where no round has one."""
    # rounds of older versions know only the seconds without preparation
    known = [r.figures.learning_seconds or r.figures.round_seconds for r in rounds]
    took = [seconds for seconds in known if seconds]
    return median(took) if took else None


def coarse(seconds: float) -> float:
    """Round up to steps of 5 s up to a minute, and of 15 s beyond."""
    step = 5 if seconds <= 60 else 15
    return float(step * math.ceil(seconds / step))


class LearningQueue:
    """The queue as the status card shows it. `begin` and `end` mark the round in progress."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._began: float | None = None
        self._is_counted = False
        self._usual: tuple[int, float | None] = (-1, None)  # (id of the newest round, usual seconds)

    def begin(self, *, is_counted: bool = False) -> None:
        """Note that a round begins. `is_counted`: it is counted among those that wait until it has ended."""
        self._is_counted = is_counted
        self._began = time.monotonic()

    def end(self) -> None:
        """Note that the round has ended."""
        self._began = None

    def waiting(self) -> tuple[QueuedCorrection, ...]:
        """The right answers in training or waiting, in training order, at most LISTED."""
        traces = self._engine.store.queued_wins(self._engine.base, LISTED)
        return tuple(
            QueuedCorrection(
                t.subject_id or "", t.prompt[-1]["content"], answer_of(t.completion), t.status == "claimed"
            )
            for t in traces
        )

    def seconds_left(self, last: Round | None, rounds_waiting: int) -> float | None:
        """Estimated seconds until everything waiting is learned, from earlier rounds, or from the machine's speed where
        there were none; None where nothing waits.
        """
        if self._began is None and not rounds_waiting:
            return None
        usual = self._usual_now(last)
        elapsed = time.monotonic() - self._began if self._began is not None else 0.0
        under_way = max(0.0, usual - elapsed) if self._began is not None else 0.0
        others = rounds_waiting - (self._began is not None and self._is_counted)
        return coarse(under_way + usual * max(0, others))

    def progress(self, last: Round | None, step: int, max_steps: int) -> float | None:
        """Share of the current round that is done, 0 to MOST_SHARE: by steps or by time, whichever is larger."""
        if self._began is None:
            return None
        by_steps = step / max_steps if max_steps else 0.0
        usual = self._usual_now(last)
        by_time = (time.monotonic() - self._began) / usual
        return round(min(MOST_SHARE, max(by_steps, by_time)), 2)

    def knows(self, last: Round | None) -> bool:
        """Whether a training of this model has ended here, so that the estimate is its own and not the machine's."""
        return self._known(last) is not None

    def _usual_now(self, last: Round | None) -> float:
        return self._known(last) or seconds_a_correction(self._engine.loaded.parameters)

    def _known(self, last: Round | None) -> float | None:
        newest = last.id if last else 0
        if self._usual[0] != newest:
            self._usual = newest, usual_seconds(self._engine.store.rounds(self._engine.base, RECENT_ROUNDS))
        return self._usual[1]
