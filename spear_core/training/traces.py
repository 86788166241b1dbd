"""What a round trains on: traces as text, and their encoding into token ids. No database, no model forward."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from transformers import PreTrainedTokenizerBase

from spear_core.config import SpearConfig
from spear_core.models.prompts import encode_completion, encode_prompt, end_token_ids
from spear_core.training.losses import distinguishing_mask, tail_mask

Messages = Sequence[dict[str, str]]


@dataclass(frozen=True)
class TrainingTrace:
    """One completion to one prompt x (chat messages up to the user's turn; never a hint), right or wrong.

    `confidence` in (0, 1]; `confirmed` marks a win that a person confirmed, which is what stopping and the gate go by.
    """

    side: Literal["win", "lose"]
    prompt: Messages
    completion: str
    confidence: float = 1.0
    confirmed: bool = True
    key: str = ""  # the caller's id

    def __post_init__(self) -> None:
        if self.side not in ("win", "lose"):
            raise ValueError(f"side must be win or lose, not {self.side!r}")
        if not 0 < self.confidence <= 1:
            raise ValueError(f"confidence must be in (0, 1], not {self.confidence}")


@dataclass(frozen=True)
class Encoded:
    """A trace as token ids; `mask` says which completion tokens its loss may touch.

    `base_prompt_ids`, of an anchor: what the base model is shown instead of the prompt, where the adapter is to say
    unasked what the base says with a hint.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    mask: tuple[bool, ...]
    confidence: float = 1.0
    confirmed: bool = True
    key: str = ""
    base_prompt_ids: tuple[int, ...] | None = None

    @property
    def shown_to_base(self) -> Encoded:
        """The example as the base model sees it."""
        return self if self.base_prompt_ids is None else replace(self, prompt_ids=self.base_prompt_ids)


class Encoder:
    """Turns traces into ids for one tokenizer; prompts are cut from their oldest side to leave room for the completion."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, context_tokens: int, protected: Collection[int] = ()
    ) -> None:
        self.tokenizer = tokenizer
        self.context_tokens = context_tokens
        self.protected = frozenset(protected)
        self.end_ids = frozenset(end_token_ids(tokenizer))

    def plain(
        self, prompt: Messages, completion: str, *, key: str = "", confidence: float = 1.0, confirmed: bool = True
    ) -> Encoded:
        """A completion all of whose tokens count (wins, anchors, probes). An overlong completion loses its end."""
        completion_ids = encode_completion(self.tokenizer, completion)
        room = self.context_tokens - len(completion_ids)
        if room < self.context_tokens // 4:
            completion_ids = completion_ids[: self.context_tokens * 3 // 4]
            room = self.context_tokens - len(completion_ids)
        prompt_ids = encode_prompt(self.tokenizer, list(prompt), max_tokens=room)
        return Encoded(
            tuple(prompt_ids), tuple(completion_ids), (True,) * len(completion_ids), confidence, confirmed, key
        )

    def hinted(self, prompt: Messages, hinted_prompt: Messages, completion: str) -> Encoded:
        """An anchor on `prompt` whose distribution is the base model's on `hinted_prompt`."""
        shown = self.plain(hinted_prompt, completion)
        return replace(self.plain(prompt, completion), base_prompt_ids=shown.prompt_ids)

    def trace(self, trace: TrainingTrace) -> Encoded:
        return self.plain(
            trace.prompt, trace.completion, key=trace.key, confidence=trace.confidence, confirmed=trace.confirmed
        )

    def losing(self, trace: TrainingTrace, wins: Sequence[TrainingTrace], config: SpearConfig) -> Encoded:
        """A losing trace with its unlikelihood mask; `distinguishing` needs a win for the same prompt, else the tail counts."""
        encoded = self.trace(trace)
        mask = tail_mask(encoded.completion_ids, config.tail_tokens, self.end_ids, self.protected)
        if config.lose_mask == "distinguishing":
            for win in wins:
                if list(win.prompt) == list(trace.prompt):
                    differs = distinguishing_mask(encoded.completion_ids, self.trace(win).completion_ids, self.end_ids)
                    mask = [m and d for m, d in zip(mask, differs, strict=True)]
                    break
        return Encoded(
            encoded.prompt_ids, encoded.completion_ids, tuple(mask), trace.confidence, trace.confirmed, trace.key
        )
