"""Greedy answers of several adapter versions to one prompt. Stores nothing and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.engine import Engine
from services.learning.lineage import Lineage
from services.learning.scope import Chosen
from services.views import AnswerView
from spear_core.errors import SpearError
from spear_core.inference.rollout import answer_all
from spear_core.models.shared_base import Serving
from spear_core.training.traces import Messages


class ComparisonService:
    """Asks several versions of the adapter the same question."""

    def __init__(self, engine: Engine, lineage: Lineage) -> None:
        self._engine = engine
        self._lineage = lineage

    def serving_version(self) -> int:
        """0 where the base model answers."""
        return self._engine.shared_models.serving.version

    def answers(self, prompt: str | Messages, versions: Sequence[int]) -> list[AnswerView]:
        """A greedy answer of each version, in the given order; 0 is the base model.

        The version that serves answers as in a chat: the base model answers what is out of its scope, and a small one reads
        what has to do with the question. Copies are not written again.

        Raises SpearError for an empty prompt, UnknownRecord for an unknown version, AdapterInvalid for one whose files
        are missing or damaged.
        """
        if not prompt or (isinstance(prompt, str) and not prompt.strip()):
            raise SpearError("Write a question to compare the answers to.")
        messages = [{"role": "user", "content": prompt.strip()}] if isinstance(prompt, str) else prompt
        return [AnswerView(version, self._answer(messages, version)) for version in versions]

    def in_steps(self, prompt: str | Messages, versions: Sequence[int]) -> Iterator[list[AnswerView]]:
        """As `answers`, one version at a time: an empty list after each but the last, then all of them.

        Whoever does not want the answers any more stops between two versions.
        """
        found: list[AnswerView] = []
        for version in versions:
            if found:
                yield []
            found += self.answers(prompt, [version])
        yield found

    def _answer(self, messages: Messages, version: int) -> str:
        engine, serving = self._engine, self._engine.shared_models.serving
        if version and version == serving.version:
            chosen = engine.scope.choose(engine, messages)
            if chosen.answer:
                return chosen.answer
            model, messages = chosen.serving.model, chosen.read(engine.loaded.settings)
        else:
            model = engine.shared_models.with_adapter(self._lineage.read(version))
            if version == 0:
                messages = Chosen(Serving(model, 0), messages).read(engine.loaded.settings)
        with engine.priority.foreground():
            return answer_all(
                model,
                engine.loaded.tokenizer,
                [messages],
                context_tokens=engine.loaded.context_tokens,
                max_new_tokens=engine.max_new_tokens,
            )[0]
