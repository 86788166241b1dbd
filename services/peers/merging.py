"""Merging updates of peers: aggregate, train the own corrections again, check at the gate, adopt. No network."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from federation.aggregate import aggregate
from federation.aggregation_plan import Contribution, MergeSettings, Parent
from federation.errors import shown
from federation.factors import digest_of
from federation.identity import PublicKey
from feedback_store import MergeRecord
from services.engine import Engine
from services.learning.figures import round_figures
from services.learning.peer_questions import ByPeer, after_merge, of_version, together
from services.learning.round_runner import REPLAY_SAMPLE, training_trace
from services.learning.rounds import LearningService
from services.learning.verdict_words import verdict_words
from spear_core.models.shared_base import AdapterState

log = logging.getLogger(__name__)
SAME = 0.01  # a merge that moves the adapter by less than this share of its length has nothing new
NOTHING_NEW = "Nothing new: the peers' adapters and this one agree."


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

    def merge(
        self,
        author: str,
        theirs: Sequence[Contribution],
        settings: MergeSettings,
        called: Mapping[str, str] | None = None,
    ) -> MergeOutcome:
        """Merge the serving adapter, whose author is this instance, with the peers' adapters, if the gate agrees.

        Where all of them come with the questions that they were taught, the result is for these and what was taught here,
        and is checked as such; else it is meant for everything. `called`: names of peers by their keys.

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
            counted = [c for c in theirs if merged.weights[c.peer] > 0]
            sent = self._specific({c.peer: c.questions for c in counted})
            version, style = learning.lineage.version, learning.style_preferences()
            questions = None if style else after_merge(store, engine.base, version, author, sent)
            is_same = own is not None and _distance(own, merged.state) < SAME
            if is_same and not _adds(questions, of_version(store, engine.base, version)):
                return MergeOutcome(NOTHING_NEW, None)
            seed = learning.lineage.seed(version)
            replay = store.replay_wins(engine.base, REPLAY_SAMPLE, [], seed)
            gained = f"what {len(counted)} {'peer' if len(counted) == 1 else 'peers'} taught is merged in"
            with learning.telling(
                "merging", "Merging what your peers taught.", "Your own corrections are kept in mind."
            ):
                learner = learning.learner(seed, style)
                covers = learning.scope_of_merge(learner, questions)
                result = learner.run_merge(own, merged.state, [training_trace(t) for t in replay], seed, covers)
            words = verdict_words(result.verdict, gained)
            if questions is None and engine.config.scope != "always":
                words += _everything_words([peer for peer in sent if not sent[peer]], called or {})
            record = MergeRecord(words, merged.method, merged.weights, merged.kept, merged.residual)
            if result.state is None:
                log.warning("merge refused: %s", words)
                return MergeOutcome(words, None)
            figures = replace(round_figures(result), merge=record)
            return MergeOutcome(words, learning.lineage.adopt(result.state, figures, questions))

    def _specific(self, sent: ByPeer) -> dict[str, tuple[str, ...]]:
        """The questions without those that would answer much else."""
        scope, found = self._engine.scope, {}
        for peer, questions in sent.items():
            scope.read(self._engine, questions)
            broad = scope.too_broad(self._engine, questions)
            if broad:
                log.warning("%d questions of a peer are left out: they would answer much else", len(broad))
            found[peer] = tuple(question for question in questions if question not in broad)
        return found


def _adds(questions: ByPeer | None, present: ByPeer | None) -> bool:
    """Whether a merge makes something known that the present version is not known to be for."""
    if questions is None:
        return False
    return present is None or not set(together(questions)) <= set(together(present))


def _everything_words(silent: Sequence[str], called: Mapping[str, str]) -> str:
    """Why a merged adapter is meant for every question, and what to do about it; with a space before the first sentence.

    `silent` are the peers that sent no questions.
    """
    if not silent:
        return (
            " This instance's own adapter answers every question, and so does what is merged with it: it holds a preference "
            "of style, an upload, or a merge without questions, which can be undone."
        )
    names = ", ".join(_name(peer, called.get(peer, "")) for peer in sorted(silent))
    return (
        f" {names} did not send the questions taught there, without which a merged adapter answers every question: ask for "
        "share_questions = true under [federation]. An adapter that holds a preference of style sends none."
    )


def _name(peer: str, name: str) -> str:
    """What a peer calls itself, unless that is an address, which is for owners."""
    if name and "://" not in name:
        return shown(name)
    try:
        return f"The peer {PublicKey.parse(peer).fingerprint}"
    except ValueError:  # no key: a study's name
        return shown(peer)


def _distance(own: AdapterState, other: AdapterState) -> float:
    """Of two adapters, relative to the first one's length (Frobenius norms over all factors)."""
    apart = sum(float((own[name].float() - other[name]).square().sum()) for name in own)
    return math.sqrt(apart / max(sum(float(own[name].float().square().sum()) for name in own), 1e-30))
