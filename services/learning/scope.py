"""Which model answers a prompt: the adapter where it was taught something near, the untouched model elsewhere."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from spear_core.inference.scope import QuestionFeatures, Scope, SubjectTest, Taught
from spear_core.models.shared_base import Serving
from spear_core.models.thoughts import answer_of
from spear_core.training.scoring import layers_of
from spear_core.training.traces import Messages

if TYPE_CHECKING:
    from services.engine import Engine

CONSOLIDATED = "consolidated"  # source of a version in which one's own corrections were practised together
log = logging.getLogger(__name__)


class AdapterScope:
    """The scope of the adapter that serves; made again when another one does. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._features: tuple[str, QuestionFeatures | None] = ("", None)  # of which base model
        self._scope: tuple[tuple[str, int], Scope | None] = (("", 0), None)  # of which version

    def serving(self, engine: Engine, prompt: Messages) -> Serving:
        """What is to answer this prompt. The last message decides: an earlier one was answered by itself."""
        serving = engine.shared_models.serving
        if serving.version == 0 or engine.config.scope == "always":
            return serving
        with self._lock:
            scope = self._of_version(engine, serving.version)
            covered = scope is None or scope.covers(prompt[-1]["content"])
        return serving if covered else Serving(engine.shared_models.base, 0)

    def covering(self, engine: Engine, taught: Sequence[Taught]) -> Callable[[str], bool]:
        """Of a question: will the next adapter answer it, once `taught` questions are learned besides the present ones?"""
        if engine.config.scope == "always":
            return _everything
        with self._lock:
            if _is_meant_for_everything(engine, engine.shared_models.serving.version):
                return _everything
            features = self._of_model(engine)
            if features is None:
                return _everything
            return _scope(engine, features, [*_learned(engine), *taught]).covers

    def prepare(self, engine: Engine) -> None:
        """Make what is the same for every version of this base model, so that the first reply need not wait for it."""
        if engine.config.scope != "always":
            with self._lock:
                self._of_model(engine)

    def forget(self) -> None:
        """Drop what is kept in memory of people's questions."""
        with self._lock:
            self._scope = (("", 0), None)
            if self._features[1] is not None:
                self._features[1].forget()

    def _of_version(self, engine: Engine, version: int) -> Scope | None:
        """None where the adapter answers everything."""
        key = (engine.base, version)
        if self._scope[0] != key:
            self._scope = (key, self._made(engine, version))
        return self._scope[1]

    def _made(self, engine: Engine, version: int) -> Scope | None:
        if _is_meant_for_everything(engine, version):
            return None
        features = self._of_model(engine)
        if features is None:
            return None
        return _scope(engine, features, _learned(engine))

    def _of_model(self, engine: Engine) -> QuestionFeatures | None:
        """None for a model whose layers cannot be told apart."""
        base = engine.shared_models.base
        if self._features[0] != engine.base:
            reference = engine.loaded.settings.anchor_prompts
            try:
                made = QuestionFeatures(base.base_model, engine.loaded.tokenizer, len(layers_of(base)), reference)
            except ValueError as e:
                log.info("the adapter answers everything: %s", e)
                made = None
            self._features = (engine.base, made)
        return self._features[1]


def _everything(question: str) -> bool:
    return True


def _scope(engine: Engine, features: QuestionFeatures, taught: Sequence[Taught]) -> Scope:
    config = engine.config
    subject = SubjectTest(engine.shared_models.base, engine.loaded.tokenizer)
    return Scope(features, taught, config.scope_similarity, subject, config.scope_gain)


def _learned(engine: Engine) -> list[Taught]:
    """The questions whose right answers were trained, each once, with the latest answer."""
    wins = engine.store.traces(base=engine.base, status="trained", side="win")
    latest = {trace.prompt[-1]["content"]: answer_of(trace.completion) for trace in wins}
    return [Taught(question, answer) for question, answer in latest.items()]


def _is_meant_for_everything(engine: Engine, version: int) -> bool:
    """A preference of style concerns all replies, and what peers taught is known to them alone."""
    lineage = engine.store.lineage(engine.base, version)
    return any(
        (adapter.round_id is None and adapter.figures.get("source") != CONSOLIDATED) or adapter.figures.get("wishes")
        for adapter in lineage
    )
