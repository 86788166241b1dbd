"""Answers of several adapter versions to one prompt, decoded as in a chat; nothing from memory. Stores and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from services.chat.sampling import usual_sampling
from services.engine import Engine
from services.learning.lineage import Lineage
from services.learning.scope import Chosen
from services.views import AnswerView
from spear_core.errors import SpearError
from spear_core.inference.rollout import sample_replies
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
        """An answer of each version, in the given order; 0 is the base model.

        They are decoded as in a chat, but always with the most likely token, so that asking again gives the same. The
        version that serves answers as it does there too: the base model answers what is out of its scope, and a small one
        reads what has to do with the question. Copies are not written again.

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
        sampling = replace(usual_sampling(engine.loaded), temperature=0.0)
        chosen = engine.scope.choose(engine, messages) if version else None
        if chosen is not None and chosen.taught is not None:
            sampling = sampling.as_checked
        if chosen is not None and version == serving.version:
            if chosen.answer:
                return chosen.answer
            model, messages = chosen.serving.model, chosen.read(engine.loaded.settings)
        else:
            model = engine.shared_models.with_adapter(self._lineage.read(version))
            if version == 0:
                messages = Chosen(Serving(model, 0), messages).read(engine.loaded.settings)
        settings = replace(sampling.settings(engine), skips_thought=True)
        with engine.priority.foreground():
            return sample_replies(model, engine.loaded.tokenizer, [messages], settings)[0][0].text
