"""One revision: the request for it, and candidate sentences with the stated answer. No threads, no storage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from spear_core.inference.hints import Hint
from spear_core.inference.recall import related
from spear_core.inference.revision_requests import request_messages, stated, without_introduction
from spear_core.inference.stated_answers import Asked, Candidate, stated_revisions
from spear_core.models.causal_model import CausalModel
from spear_core.models.settings import ModelSettings
from spear_core.models.thoughts import answer_of
from spear_core.training.judge import normalised
from spear_core.training.traces import Encoder, Messages


@dataclass(frozen=True)
class Revision:
    """`attempts`: each refused reply with the hint on it, oldest first, as the person gave them."""

    prompt: Messages
    attempts: Sequence[tuple[str, str]]
    settings: ModelSettings

    @property
    def request(self) -> list[dict[str, str]]:
        """The prompt for a revision, used where there is no candidate sentence.

        A model that copies what it has read does not read answers to other questions: it would give one of them.
        """
        prompt = related(self.prompt) if self.settings.reads_related_only else self.prompt
        return request_messages(prompt, self.attempts, self.settings)

    @cached_property
    def hint(self) -> Hint | None:
        """The hint that states the answer; None where none does, or where this model writes revisions on request only."""
        if self.settings.revise_by_request_only:
            return None
        return stated(self.attempts, self.prompt[-1]["content"])

    def candidates(self, model: CausalModel, encoder: Encoder, is_unwanted: Any = lambda: False) -> list[Candidate]:
        """Sentences with the stated answer, the best first; none where no hint states one."""
        if self.hint is None:
            return []
        asked = Asked(self.prompt, [reply for reply, _ in self.attempts])
        return stated_revisions(model, encoder, asked, self.hint, is_unwanted=is_unwanted)

    def shown(self, text: str, *, is_over: bool = False) -> str:
        """The part of an unfinished reply to the request that is shown."""
        said = answer_of(text)
        return said if self.settings.revise_by_request_only else without_introduction(said, is_over=is_over)

    def repeats(self, text: str) -> bool:
        """Whether the text repeats a refused reply."""
        return normalised(text) in {normalised(reply) for reply, _ in self.attempts}
