"""The state of the learning as the status card shows it, read from the store and the round under way. Changes nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from feedback_store import Round, UnknownRecord
from services.engine import Engine
from services.learning import card_words
from services.learning.contradictions import RecentContradictions
from services.learning.forgetting import Forgetting
from services.learning.lineage import Lineage
from services.learning.live_status import LiveStatus
from services.learning.waiting_queue import MOST_TRACES, LearningQueue
from services.views import ContradictionView, LearningStatus


class CardStatus:
    """Builds the LearningStatus of the present base model."""

    def __init__(
        self,
        engine: Engine,
        lineage: Lineage,
        forgetting: Forgetting,
        live: LiveStatus,
        queue: LearningQueue,
        contradictions: RecentContradictions,
    ) -> None:
        self._engine = engine
        self._store = engine.store
        self._lineage = lineage
        self._forgetting = forgetting
        self._live = live
        self._queue = queue
        self._contradictions = contradictions

    def now(
        self,
        *,
        paused: bool,
        note: str,
        rests: bool,
        may_quote: Callable[[Round], bool],
        may_settle: Callable[[ContradictionView], bool],
    ) -> LearningStatus:
        """The state of the learning.

        Args:
            paused: whether learning is paused.
            note: what failed at the start or in the last round, or empty.
            rests: whether nothing is tried for a while after a disk error.
            may_quote: whether the hints behind the style preferences of a round may be quoted.
            may_settle: whether a contradiction may be shown; the newest of these is.
        """
        live = self._live.now
        base = self._engine.base
        version = self._store.active_version(base)
        wins, loses = self._store.count_pending(base)
        last = self._store.last_round(base)
        rebuilds = len(self._forgetting.waiting())
        common: dict[str, Any] = {
            "adapter_version": version,
            "paused": paused,
            "pending_wins": wins,
            "pending_loses": loses,
            "can_roll_back": version > 0,
            "proof": card_words.proof_of(last, version),
            "contradiction": next(filter(may_settle, self._contradictions.found()), None),
            "seconds": last.figures.seconds_to_live if last else None,
            "undone": self._lineage.undone(),
            "queue": self._queue.waiting() if wins or live or (last and last.status == "running") else (),
        }
        if not paused:
            common["seconds_left"] = self._queue.seconds_left(last, math.ceil(wins / MOST_TRACES) + rebuilds)
            common["is_first_estimate"] = not self._queue.knows(last)
        if live:
            common["progress"] = self._queue.progress(last, live.step, live.max_steps)
            common["checked"], common["changed"] = card_words.checked_of(last, version, live.phase)
            return LearningStatus(**dataclasses.asdict(live), **common)
        phase, headline, detail = card_words.resting(
            last,
            version,
            wins,
            self._store.count_rejected_questions(base) if loses else 0,
            rebuilds,
            paused=paused,
            note=note,
            rests=rests,
            adopted=self.adopted(last) if last and may_quote(last) else "",
            undone=common["undone"],
        )
        common["checked"], common["changed"] = card_words.checked_of(last, version, phase)
        return LearningStatus(phase, headline, detail, **common)

    def adopted(self, last: Round) -> str:
        """A sentence on the style preferences of a round, without those forgotten or deleted since."""
        hints = []
        for message_id in last.figures.style_preferences or ():
            with suppress(UnknownRecord):
                hints.append(self._store.message(message_id).hint or "")
        return card_words.adopted_words([hint.strip() for hint in hints if hint.strip()])
