"""Which model answers a prompt: the adapter where it was taught something near, the untouched model elsewhere.

Where `memory` is set, what was taught is also found by its question: a correction that no adapter has learned yet is
answered as it was confirmed, and later a question in other words is asked of the adapter in those that it was taught with.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from feedback_store import Store, Trace, UnknownRecord
from services.learning.labels import PRAISE
from spear_core.errors import ConfigError
from spear_core.inference.recall import as_taught
from spear_core.inference.scope import (
    Covers,
    QuestionFeatures,
    SameQuestion,
    Scope,
    SubjectTest,
    Taught,
    asked_in,
    everything,
    leans_on_history,
)
from spear_core.inference.scope_classifier import FILE, load_scope_classifier
from spear_core.models.shared_base import Serving
from spear_core.models.thoughts import answer_of
from spear_core.training.scoring import layers_of
from spear_core.training.traces import Messages

if TYPE_CHECKING:
    from services.engine import Engine

WAITING = 64  # corrections that are not trained yet and are looked at
SURE_ODDS = 0.0  # log-odds of the scope classifier: more likely the same question than not
CONSOLIDATED = "consolidated"  # source of a version in which one's own corrections were practised together
log = logging.getLogger(__name__)
# of the base models that this process has opened, by their fingerprint and reference questions
_whitenings: dict[tuple[str, tuple[str, ...]], tuple[Tensor, Tensor]] = {}


@dataclass(frozen=True)
class Chosen:
    """How a prompt is to be answered.

    Attributes:
        serving: the model.
        prompt: as the model gets it: a question that was taught in other words is asked in those.
        taught: what it was taught; None outside the scope.
        answer: the confirmed answer itself, where no adapter has learned it yet.
    """

    serving: Serving
    prompt: Messages
    taught: Taught | None = None
    answer: str = ""


@dataclass(frozen=True)
class _OfModel:
    """What is the same for every adapter of one base model; None for one whose layers cannot be told apart."""

    base: str
    features: QuestionFeatures | None
    same: SameQuestion | None = None
    least: float = 0.0  # score from which on a question may be the taught one
    sure: float = inf  # and from which on it surely is


class AdapterScope:
    """The scope of the adapter that serves, made again when another one does. Thread-safe."""

    def __init__(self) -> None:
        # Of all users; the engine sets it once, a user's copy of the engine has another
        self.store: Store | None = None
        self._lock = threading.Lock()
        self._model = _OfModel("", None)
        self._scope: tuple[tuple[Any, ...], Scope | None] = ((), None)  # of which version and corrections

    def choose(self, engine: Engine, prompt: Messages, conversation_id: str = "") -> Chosen:
        """What is to answer this prompt. The last message decides: an earlier one was answered by itself.

        What waits to be learned answers in conversations of the user who confirmed it; no check has seen it yet.
        """
        serving, config = engine.shared_models.serving, engine.config
        base = Serving(engine.shared_models.base, 0)
        if config.scope == "always" or (serving.version == 0 and not config.memory):
            return Chosen(serving, prompt)
        with self._lock:
            scope = self._of_version(engine, serving.version, conversation_id)
            taught = scope.taught_for(asked_in(prompt)) if scope else None
        if scope is None:
            return Chosen(serving, prompt)
        if taught is None:
            return Chosen(base, prompt)
        if taught.is_waiting:
            return Chosen(base, prompt, taught, taught.answer)
        return Chosen(serving, as_taught(prompt, taught) if config.memory else prompt, taught)

    def serving(self, engine: Engine, prompt: Messages) -> Serving:
        """The model that is to answer this prompt."""
        return self.choose(engine, prompt).serving

    def covering(self, engine: Engine, wins: Sequence[Trace]) -> Covers:
        """Of questions: will the next adapter answer each, once these right answers are learned besides the present ones?"""
        if engine.config.scope == "always":
            return everything
        with self._lock:
            if self._answers_everything(engine, engine.shared_models.serving.version):
                return everything
            return self._made(engine, self._all_taught(engine, wins)).covers_each

    def keep_apart(self, engine: Engine, win: Trace, others: Sequence[str]) -> set[str]:
        """Remember with a right answer which of these questions, made to ask for something else, are taken for its own.

        Asked later, they and what is nearer to them than to the taught question are out of scope. Returns those that are
        surely its own after all: a word put in the place of another may be its synonym.
        """
        with self._lock:
            of_model = self._of_model(engine)
            if engine.config.scope == "always" or of_model.features is None:
                return set()
            store = self._whole(engine)
            scope = self._made(engine, _taught(store, [win]))
            scores = {question: score for question, (_, score) in scope.best_of(others).items()}
        apart = [question for question, score in scores.items() if of_model.least <= score < of_model.sure]
        same = {question for question, score in scores.items() if score >= of_model.sure}
        if apart or same:
            kept = store.kept_neighbours([win.id]).get(win.id, [])
            others_kept = [made for made in kept if made.get("question") not in same]
            store.keep_neighbours(win.id, [*others_kept, *({"apart": question} for question in apart)])
        return same

    def compare(self, engine: Engine, prompt: Messages, others: Sequence[str]) -> None:
        """Compare a question with others before it is taught: `keep_apart` and `covering` then find it remembered."""
        with self._lock:
            if engine.config.scope != "always" and self._of_model(engine).features is not None:
                self._made(engine, [Taught(asked_in(prompt), "")]).read(others)

    def prepare(self, engine: Engine) -> None:
        """Make what is the same for every version of this base model, so that the first reply need not wait for it."""
        if engine.config.scope != "always":
            with self._lock:
                self._of_model(engine)

    def forget(self) -> None:
        """Drop what is kept in memory of people's questions."""
        with self._lock:
            self._scope = ((), None)
            if self._model.features is not None:
                self._model.features.forget()
            if self._model.same is not None:
                self._model.same.forget()

    def _of_version(self, engine: Engine, version: int, conversation_id: str) -> Scope | None:
        """None where the adapter answers everything."""
        waiting: list[Trace] = []
        if engine.config.memory and conversation_id:
            waiting = _waiting(self._whole(engine), engine.base, conversation_id)
        key = (engine.base, version, *(trace.id for trace in waiting))
        if self._scope[0] != key:
            for_all = self._answers_everything(engine, version)
            self._scope = (key, None if for_all else self._made(engine, self._all_taught(engine, waiting)))
        return self._scope[1]

    def _answers_everything(self, engine: Engine, version: int) -> bool:
        """Whether no scope can be told for a version, or none is meant."""
        meant = _is_meant_for_everything(self._whole(engine), engine.base, version)
        return meant or self._of_model(engine).features is None

    def _whole(self, engine: Engine) -> Store:
        """The store of all users: they share the adapter, whoever asks."""
        return self.store or engine.store

    def _all_taught(self, engine: Engine, more: Sequence[Trace]) -> list[Taught]:
        store = self._whole(engine)
        return _taught(store, [*_trained(store, engine.base), *more])

    def _made(self, engine: Engine, taught: Sequence[Taught]) -> Scope:
        of_model = self._of_model(engine)
        assert of_model.features is not None
        return Scope(of_model.features, taught, engine.config.scope_similarity, of_model.same, of_model.least)

    def _of_model(self, engine: Engine) -> _OfModel:
        if self._model.base != engine.base:
            self._model = _of_model(engine)
        return self._model


def _of_model(engine: Engine) -> _OfModel:
    base, tokenizer, config = engine.shared_models.base, engine.loaded.tokenizer, engine.config
    reference = tuple(engine.loaded.settings.anchor_prompts)
    try:
        known = _whitenings.get((engine.base, reference))
        features = QuestionFeatures(base.base_model, tokenizer, len(layers_of(base)), reference, known)
        _whitenings[engine.base, reference] = features.whitening
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
    """What the conversation's user confirmed and no adapter has learned yet."""
    found = [t for t in store.queued_wins(base, WAITING) if t.source != "judged"]
    try:
        user = store.conversation(conversation_id).user if found else ""
        return [t for t in found if t.conversation_id and store.conversation(t.conversation_id).user == user]
    except UnknownRecord:  # deleted meanwhile
        return []


def _trained(store: Store, base: str) -> list[Trace]:
    return store.traces(base=base, status="trained", side="win")


def _taught(store: Store, wins: Sequence[Trace]) -> list[Taught]:
    """Their questions, each once, with the latest answer."""
    latest = {asked_in(t.prompt): t for t in wins}
    kept = store.kept_neighbours([t.id for t in latest.values()])
    return [
        Taught(
            question,
            answer_of(t.completion),
            None if t.source in PRAISE or leans_on_history(t.prompt[-1]["content"]) else t.prompt,
            tuple(made["apart"] for made in kept.get(t.id, ()) if "apart" in made),
            is_waiting=t.status != "trained",
        )
        for question, t in latest.items()
    ]


def _is_meant_for_everything(store: Store, base: str, version: int) -> bool:
    """A preference of style concerns all replies, and what peers taught is known to them alone."""
    lineage = store.lineage(base, version)
    return any(
        (adapter.round_id is None and adapter.figures.source != CONSOLIDATED) or bool(adapter.figures.style_preferences)
        for adapter in lineage
    )
