"""Merging updates of peers: aggregate, train the own corrections again, check at the gate, adopt. No network."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from federation.aggregate import aggregate
from federation.aggregation_plan import Contribution, MergeSettings, Parent
from federation.factors import digest_of
from feedback_store import MergeRecord
from services.engine import Engine
from services.learning.figures import round_figures
from services.learning.round_runner import REPLAY_SAMPLE, training_trace
from services.learning.rounds import LearningService
from services.learning.verdict_words import verdict_words
from spear_core.models.shared_base import AdapterState

log = logging.getLogger(__name__)
SAME = 0.01  # a merge that moves the adapter by less than this share of its length has nothing new


@dataclass(frozen=True)
class MergeOutcome:
    """The outcome of a merge in a sentence; `version` of the new adapter, None where the old one keeps serving."""

    words: str
    version: int | None


class Merging:
    """One merge at a time, between the learning rounds."""

    def __init__(self, engine: Engine, learning: LearningService) -> None:
        self._engine = engine
        self._learning = learning
        initial = engine.shared_models.initial
        self.first = Parent(initial, digest_of(initial))

    def merge(self, author: str, theirs: Sequence[Contribution], settings: MergeSettings) -> MergeOutcome:
        """Merge the serving adapter, whose author is this instance, with the peers' adapters, if the gate agrees.

        Raises MergeImpossible for adapters that cannot be averaged, SpearError where a round does not end in time or
        the training breaks.
        """
        engine, learning = self._engine, self._learning
        with learning.between_rounds():
            own, store = learning.lineage.state, engine.store
            voices = list(theirs)
            if own is not None:
                wins = store.count_learned(engine.base)
                voices.append(Contribution(author, own, wins, self.first.digest))
            merged = aggregate(voices, settings, self.first)
            if own is not None and _distance(own, merged.state) < SAME:
                return MergeOutcome("Nothing new: the peers' adapters and this one agree.", None)
            seed = learning.lineage.seed(learning.lineage.version)
            replay = store.replay_wins(engine.base, REPLAY_SAMPLE, [], seed)
            count = sum(merged.weights[c.peer] > 0 for c in theirs)
            gained = f"what {count} {'peer' if count == 1 else 'peers'} taught is merged in"
            with learning.telling(
                "merging", "Merging what your peers taught.", "Your own corrections are kept in mind."
            ):
                learner = learning.learner(seed, learning.style_preferences())
                result = learner.run_merge(own, merged.state, [training_trace(t) for t in replay], seed)
            words = verdict_words(result.verdict, gained)
            record = MergeRecord(words, merged.method, merged.weights, merged.kept, merged.residual)
            if result.state is None:
                log.warning("merge refused: %s", words)
                return MergeOutcome(words, None)
            return MergeOutcome(
                words, learning.lineage.adopt(result.state, replace(round_figures(result), merge=record))
            )


def _distance(own: AdapterState, other: AdapterState) -> float:
    """Of two adapters, relative to the first one's length (Frobenius norms over all factors)."""
    apart = sum(float((own[name].float() - other[name]).square().sum()) for name in own)
    return math.sqrt(apart / max(sum(float(own[name].float().square().sum()) for name in own), 1e-30))
