"""Which model answers a prompt: the adapter where it was taught something near, the untouched model elsewhere.

A version that peers had a part in also answers what they were taught, where they sent their questions (peer_questions.py).

Where `memory` is set, what was taught is also found by its question: a correction that no adapter has learned yet, that the
gate refused, or that later rounds made the adapter lose, is answered as it was confirmed; else a question in other words is
asked of the adapter in those that it was taught with.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from feedback_store import Store, Trace, UnknownRecord
from services.learning.contradictions import replaced
from services.learning.joint_scope import Coverage, JointScope, taught_to_peers, with_known
from services.learning.labels import PRAISE
from services.learning.peer_questions import ByPeer, of_version, together
from services.learning.whitening_file import read_whitening, whitening_path, write_whitening
from spear_core.errors import ConfigError
from spear_core.inference.pointing_back import leans_on_history
from spear_core.inference.recall import as_taught, related
from spear_core.inference.scope import (
    Covers,
    QuestionFeatures,
    SameQuestion,
    Scope,
    SubjectTest,
    Taught,
    asked_in,
    everything,
)
from spear_core.inference.scope_classifier import FILE, load_scope_classifier
from spear_core.models.decoder_layers import layers_of
from spear_core.models.settings import ModelSettings
from spear_core.models.shared_base import Serving
from spear_core.models.thoughts import answer_of
from spear_core.training.scoring import is_given
from spear_core.training.traces import Messages

if TYPE_CHECKING:
    from services.engine import Engine

WAITING = 64  # corrections of one user that are not trained yet, and as many refused ones, that are looked at
SURE_ODDS = 0.0  # log-odds of the scope classifier: more likely the same question than not
MOST_STARTERS = 2  # starter questions that a peer's question may be the same as: they all ask for different things
STARTERS_TOGETHER = 0.1  # share of the starter questions that all questions of the peers may be the same as
log = logging.getLogger(__name__)
# of the base models that this process has opened, by their fingerprint and reference questions
_whitenings: dict[tuple[str, tuple[str, ...]], tuple[Tensor, Tensor]] = {}


@dataclass(frozen=True)
class Chosen:
    """How a prompt is to be answered.

    Attributes:
        serving: the model.
        prompt: as the model gets it: a question that was taught in other words is asked in those, and one that was not
            without the earlier ones that were.
        taught: what it was taught; None outside the scope.
        answer: the confirmed answer itself, where the adapter does not give it.
    """

    serving: Serving
    prompt: Messages
    taught: Taught | None = None
    answer: str = ""

    def read(self, settings: ModelSettings) -> Messages:
        """What the model reads of the prompt where a person talks to it: a small untouched one not what is unrelated."""
        return related(self.prompt) if settings.reads_related_only and self.taught is None else self.prompt


@dataclass(frozen=True)
class _OfModel:
    """What is the same for every adapter of one base model; None for one whose layers cannot be told apart."""

    base: str
    features: QuestionFeatures | None
    same: SameQuestion | None = None
    least: float = 0.0  # score from which on a question may be the taught one
    sure: float = inf  # and from which on it surely is


class _Kept:
    """What is kept for one base model. Whoever is computing when it is dropped adds to what nobody has any more."""

    def __init__(self, of_model: _OfModel) -> None:
        self.of_model = of_model
        self.scope: tuple[tuple[Any, ...], Scope | JointScope | None] = ((), None)  # of which version and corrections
        self.vectors: dict[str, Tensor] = {}  # features of taught questions: whichever version holds them, the same


class AdapterScope:
    """The scope of the adapter that serves, made again when another one does. Thread-safe.

    No lock is held while questions are read: a reply would wait for a job that steps aside for it.
    """

    def __init__(self) -> None:
        # Of all users; the engine sets it once, a user's copy of the engine has another
        self.store: Store | None = None
        self._making = threading.Lock()
        self._kept = _Kept(_OfModel("", None))

    def choose(self, engine: Engine, prompt: Messages, conversation_id: str = "") -> Chosen:
        """What is to answer this prompt. The last message decides: an earlier one was answered by itself.

        What waits to be learned answers in conversations of the user who confirmed it; no check has seen it yet.
        """
        serving, config = engine.shared_models.serving, engine.config
        base = Serving(engine.shared_models.base, 0)
        if config.scope == "always":
            return Chosen(serving, prompt)
        waiting = (
            _waiting(self._whole(engine), engine.base, conversation_id) if config.memory and conversation_id else []
        )
        if serving.version == 0 and not waiting:
            return Chosen(serving, prompt)
        scope = self._of_version(engine, serving.version, waiting)
        if scope is None:
            return Chosen(serving, prompt)
        taught = scope.taught_for(asked_in(prompt))
        if taught is None:
            return Chosen(base, _without_taught(scope, prompt))
        if taught.is_waiting:
            return Chosen(base, prompt, taught, taught.answer)
        return Chosen(serving, as_taught(prompt, taught) if config.memory else prompt, taught)

    def remembered(self, engine: Engine, chosen: Chosen) -> Chosen:
        """The same, with the confirmed answer itself where the adapter no longer gives it: later rounds may cost an earlier
        correction, and practise it again.

        One forward pass where a question is asked as it was taught, else none. What the person took back, or contradicted
        later, is not remembered: the adapter may well have lost it.
        """
        taught = chosen.taught
        if not engine.config.memory or chosen.answer or taught is None or taught.prompt is None:
            return chosen
        if [*chosen.prompt] != [*taught.prompt]:  # under other instructions, or after other messages
            return chosen
        store = self._whole(engine)
        if not store.is_replayed(taught.trace_id):
            return chosen
        if is_given(chosen.serving.model, engine.encoder.plain(chosen.prompt, taught.completion)):
            return chosen
        gone = replaced([*_trained(store, engine.base), *store.queued_wins(engine.base, WAITING)])
        return chosen if taught.trace_id in gone else replace(chosen, answer=taught.answer)

    def serving(self, engine: Engine, prompt: Messages) -> Serving:
        """The model that is to answer this prompt."""
        return self.choose(engine, prompt).serving

    def covering(self, engine: Engine, wins: Sequence[Trace], merged: ByPeer | None = None) -> Covers:
        """Of questions: will the next adapter answer each? A `Coverage`, or `everything`.

        Args:
            engine: with the version that serves now.
            wins: right answers that it will have learned besides the present ones.
            merged: of a merge, the peers' questions that it will be for; None: those of the present version.
        """
        kept = self._comparing(engine)
        if kept is None:
            return everything
        peers = merged
        if merged is None:
            peers = of_version(self._whole(engine), engine.base, engine.shared_models.serving.version)
        if peers is None:
            return everything
        scope = _joint(kept, self._all_taught(engine, wins), peers, engine.config.scope_similarity)
        own = scope.own if isinstance(scope, JointScope) else scope
        return Coverage(scope.covers_each, own.covers_each)

    def read(self, engine: Engine, questions: Iterable[str]) -> None:
        """Compute the features of peers' questions, so that a reply need not wait for all of them."""
        for question in questions:
            kept = self._comparing(engine)
            if kept is None:
                return
            _keep_vectors(kept, [question])
            engine.priority.give_way()

    def too_broad(self, engine: Engine, questions: Sequence[str]) -> set[str]:
        """Those of peers' questions that would answer several starter questions, which all ask for different things, and
        those with which they would answer too many of them together.
        """
        kept = self._comparing(engine)
        if kept is None or not questions:
            return set()
        starters, least = list(engine.loaded.settings.probe_prompts), kept.of_model.least
        answered: set[str] = set()
        broad: set[str] = set()
        # each by itself: of several that are near only the best would count
        for taught in taught_to_peers(questions, ()):
            scope = _made(kept, [taught], engine.config.scope_similarity)
            own = {starter for starter, (found, score) in scope.best_of(starters).items() if found and score >= least}
            if len(own) > MOST_STARTERS or len(answered | own) > max(MOST_STARTERS, STARTERS_TOGETHER * len(starters)):
                broad.add(taught.question)
            else:
                answered |= own
        return broad

    def keep_apart(self, engine: Engine, win: Trace, others: Sequence[str]) -> set[str]:
        """Remember with a right answer which of these questions, made to ask for something else, are taken for its own.

        Asked later, they and what is nearer to them than to the taught question are out of scope. Returns those that are
        surely its own after all: a word put in the place of another may be its synonym.
        """
        kept = self._comparing(engine)
        if kept is None:
            return set()
        store, of_model = self._whole(engine), kept.of_model
        scope = _made(kept, _taught(store, [win]), engine.config.scope_similarity)
        scores = {question: score for question, (_, score) in scope.best_of(others).items()}
        apart = [question for question, score in scores.items() if of_model.least <= score < of_model.sure]
        same = {question for question, score in scores.items() if score >= of_model.sure}
        if apart or same:
            neighbours = store.kept_neighbours([win.id]).get(win.id, [])
            others_kept = [made for made in neighbours if made.get("question") not in same]
            store.keep_neighbours(win.id, [*others_kept, *({"apart": question} for question in apart)])
        return same

    def compare(self, engine: Engine, prompt: Messages, others: Sequence[str]) -> None:
        """Compare a question with others before it is taught: `keep_apart` and `covering` then find it remembered."""
        kept = self._comparing(engine)
        if kept is not None:
            _made(kept, [Taught(asked_in(prompt), "")], engine.config.scope_similarity).read(others)

    def prepare(self, engine: Engine) -> None:
        """Make what every version of this base model needs, and the features of what peers were taught to the present one,
        so that the first reply need not wait for them.
        """
        if engine.config.scope != "always":
            self._kept_for(engine)
            peers = of_version(self._whole(engine), engine.base, engine.shared_models.serving.version)
            self.read(engine, together(peers or {}))

    def forget(self) -> None:
        """Drop what is kept in memory of people's questions."""
        with self._making:
            self._kept = _Kept(self._kept.of_model)
            if self._kept.of_model.features is not None:
                self._kept.of_model.features.forget()
            if self._kept.of_model.same is not None:
                self._kept.of_model.same.forget()

    def _comparing(self, engine: Engine) -> _Kept | None:
        """As `_kept_for`; None where the adapter answers everything."""
        if engine.config.scope == "always":
            return None
        kept = self._kept_for(engine)
        return kept if kept.of_model.features is not None else None

    def _of_version(self, engine: Engine, version: int, waiting: Sequence[Trace]) -> Scope | JointScope | None:
        """None where the adapter answers everything."""
        kept = self._kept_for(engine)
        key = (version, *(trace.id for trace in waiting))
        found, scope = kept.scope
        if found != key:
            scope = None
            peers = of_version(self._whole(engine), engine.base, version)
            if peers is not None and kept.of_model.features is not None:
                taught = self._all_taught(engine, waiting)
                scope = _joint(kept, taught, peers, engine.config.scope_similarity)
                held = {*together(peers), *(t.question for t in taught)}
                kept.vectors = {question: found for question, found in list(kept.vectors.items()) if question in held}
            kept.scope = (key, scope)
        return scope

    def _whole(self, engine: Engine) -> Store:
        """The store of all users: they share the adapter, whoever asks."""
        return self.store or engine.store

    def _all_taught(self, engine: Engine, more: Sequence[Trace]) -> list[Taught]:
        store = self._whole(engine)
        return _taught(store, [*_trained(store, engine.base), *more])

    def _kept_for(self, engine: Engine) -> _Kept:
        """What is kept for the engine's base model; made once, without a pause: a reply may wait for it."""
        kept = self._kept
        if kept.of_model.base == engine.base:
            return kept
        with self._making, engine.priority.unbroken():
            if self._kept.of_model.base != engine.base:
                self._kept = _Kept(_of_model(engine))
            return self._kept


def _without_taught(scope: Scope | JointScope, prompt: Messages) -> Messages:
    """The prompt less the earlier exchanges that were answered as taught; all of it where its question leans on them.

    They are in the weights. A small model that also reads them gives such an answer to the next question that looks alike.
    """
    if leans_on_history(prompt[-1]["content"]):
        return prompt
    kept: list[dict[str, str]] = []
    for i, message in enumerate(prompt[:-1]):
        is_answer = message["role"] == "assistant" and i > 0 and prompt[i - 1]["role"] == "user"
        if is_answer and scope.was_taught(asked_in(prompt[:i]), message["content"]):
            kept.pop()
        else:
            kept.append(message)
    return [*kept, prompt[-1]]


def _joint(kept: _Kept, taught: Sequence[Taught], peers: ByPeer, similarity: float) -> Scope | JointScope:
    theirs = taught_to_peers(together(peers), {t.question for t in taught})
    own = _made(kept, taught, similarity)
    return JointScope(own, _made(kept, theirs, similarity)) if theirs else own


def _made(kept: _Kept, taught: Sequence[Taught], similarity: float) -> Scope:
    vectors, of_model = _keep_vectors(kept, [t.question for t in taught]), kept.of_model
    assert of_model.features is not None
    return Scope(with_known(of_model.features, vectors), taught, similarity, of_model.same, of_model.least)


def _keep_vectors(kept: _Kept, questions: Sequence[str]) -> dict[str, Tensor]:
    """The features of these questions, and of others; computed where they are not kept yet."""
    vectors, features = kept.vectors, kept.of_model.features
    assert features is not None
    for question in questions:
        if question not in vectors:
            vectors[question] = features([question])[0]
    return vectors


def _of_model(engine: Engine) -> _OfModel:
    base, tokenizer, config = engine.shared_models.base, engine.loaded.tokenizer, engine.config
    reference = tuple(engine.loaded.settings.anchor_prompts)
    try:
        path = whitening_path(engine.data_folder, engine.base, reference)
        known = _whitenings.get((engine.base, reference)) or read_whitening(
            path, base.config.get_text_config().hidden_size
        )
        features = QuestionFeatures(base.base_model, tokenizer, len(layers_of(base)), reference, known)
        _whitenings[engine.base, reference] = features.whitening
        if known is None:
            write_whitening(path, features.whitening)
    except ValueError as e:
        log.info("the adapter answers everything: %s", e)
        return _OfModel(engine.base, None)
    file = Path(engine.loaded.name) / FILE
    if file.is_file():
        try:
            classifier = load_scope_classifier(file, base.base_model, tokenizer)
            return _OfModel(engine.base, features, classifier, config.scope_odds, SURE_ODDS)
        except ConfigError as e:
            log.warning("%s; whether a question is about a taught one is told without it", e)
    return _OfModel(engine.base, features, SubjectTest(base, tokenizer), config.scope_gain)


def _waiting(store: Store, base: str, conversation_id: str) -> list[Trace]:
    """What the conversation's user confirmed and no adapter has learned yet, or the gate refused."""
    try:
        return store.wins_from_memory(base, store.conversation(conversation_id).user, WAITING)
    except UnknownRecord:  # deleted meanwhile
        return []


def _trained(store: Store, base: str) -> list[Trace]:
    return store.traces(base=base, status="trained", side="win")


def _taught(store: Store, wins: Sequence[Trace]) -> list[Taught]:
    """Their questions, each once, with the latest answer."""
    latest: dict[str, Trace] = {}
    corrected: dict[str, Trace] = {}  # the latest that was no praise
    for trace in sorted(wins, key=lambda t: t.seq):
        question = asked_in(trace.prompt)
        latest[question] = trace
        if trace.source not in PRAISE:
            corrected[question] = trace
    kept = store.kept_neighbours([t.id for t in latest.values()])
    return [
        Taught(
            question,
            answer_of(t.completion),
            _asked_as(t, corrected.get(question)),
            tuple(made["apart"] for made in kept.get(t.id, ()) if "apart" in made),
            is_waiting=t.status != "trained",
            completion=t.completion,
            trace_id=t.id,
        )
        for question, t in latest.items()
    ]


def _asked_as(latest: Trace, corrected: Trace | None) -> Messages | None:
    """The messages in place of which other wordings are asked; None where nothing was taught, or the question leans on others.

    Praise of a taught answer changes nothing; praise of another one teaches nothing.
    """
    is_taught = corrected is not None and answer_of(corrected.completion) == answer_of(latest.completion)
    return latest.prompt if is_taught and not leans_on_history(latest.prompt[-1]["content"]) else None
