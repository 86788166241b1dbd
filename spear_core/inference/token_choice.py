"""Choice of the next token of each row. Pure functions of logits; no model.

Repetition penalty, forbidden n-grams and forbidden sequences are transformers' own logits processors. Nucleus sampling
(Holtzman et al., arXiv 1904.09751) looks at the most likely tokens first, because sorting the whole vocabulary for each token
takes longer than the forward pass of a small model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

LIKELY_TOKENS = 256  # examined first for the nucleus; the whole vocabulary only where they sum to less than `top_p`

LogitsHook = Callable[[Sequence[int], Tensor], Tensor]


@dataclass(frozen=True)
class Choice:
    """How a row's tokens are chosen. Raises ValueError for a value that is not allowed."""

    temperature: float = 0.0  # 0: always the most likely token
    top_p: float = 0.95  # of sampling: only the most likely tokens with this probability in sum
    seed: int | None = None  # of the row's own random stream; None: torch's global one
    repetition_penalty: float = 1.0  # 1: none; of the reply's own tokens, since words of the question may well recur
    no_repeat_ngram: int = 0  # 0: off; a run of so many tokens does not occur twice in a reply
    banned: tuple[tuple[int, ...], ...] = ()  # sequences of tokens that never occur
    hook: LogitsHook | None = None  # (the reply's tokens so far, logits (V,)) -> logits (V,), before everything else

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"temperature {self.temperature} and top_p {self.top_p}: at least 0, and above 0 up to 1")
        if self.repetition_penalty <= 0 or self.no_repeat_ngram < 0:
            raise ValueError("repetition_penalty must be above 0, no_repeat_ngram at least 0")

    @property
    def is_plain(self) -> bool:
        """Whether only temperature and top-p are set. Rows with equal plain choices are computed together."""
        return (
            self.seed is None
            and self.repetition_penalty == 1.0
            and not self.no_repeat_ngram
            and not self.banned
            and self.hook is None
        )


@dataclass
class Chooser:
    """The choice of one row, with its random stream and its processors."""

    choice: Choice
    prompt: Sequence[int]
    end_ids: frozenset[int]
    _generator: torch.Generator | None = field(default=None, init=False)

    def choose(self, logits: Tensor, reply: Sequence[int]) -> int:
        """The next token, from logits (V,) of any dtype."""
        choice, scores = self.choice, logits.float()
        if choice.hook is not None:
            scores = choice.hook(reply, scores)
        if self._processors:
            scores = self._processed(scores, reply)
        if choice.temperature > 0 and choice.seed is not None and self._generator is None:
            self._generator = torch.Generator(scores.device).manual_seed(choice.seed)
        return int(choose_tokens(scores.unsqueeze(0), choice.temperature, choice.top_p, self._generator))

    def _processed(self, scores: Tensor, reply: Sequence[int]) -> Tensor:
        row = scores.unsqueeze(0)
        for processor, with_prompt in self._processors:
            ids = [*self.prompt, *reply] if with_prompt else [*reply]
            row = processor(torch.tensor([ids], dtype=torch.long, device=scores.device), row)
        return row[0]

    @cached_property
    def _processors(self) -> list[tuple[Any, bool]]:
        """(processor, whether it gets the prompt too)."""
        choice, made = self.choice, list[tuple[Any, bool]]()
        if choice.repetition_penalty != 1.0:
            made.append((RepetitionPenaltyLogitsProcessor(choice.repetition_penalty), False))
        if choice.no_repeat_ngram:
            made.append((NoRepeatNGramLogitsProcessor(choice.no_repeat_ngram), False))
        if choice.banned:
            made.append((NoBadWordsLogitsProcessor([list(b) for b in choice.banned], sorted(self.end_ids)), True))
        return made


def choose_tokens(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator | None = None) -> Tensor:
    """The next token of each row: (B, V) -> (B,)."""
    scores = logits.float()  # argmax is twice as fast in float32 as in bfloat16
    if temperature <= 0:
        return scores.argmax(-1)
    probabilities = (scores / temperature).softmax(-1)
    if top_p >= 1:
        return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)
    likely, ids = probabilities.topk(min(LIKELY_TOKENS, probabilities.shape[-1]))
    if bool((likely.sum(-1) < top_p).any()):
        likely, ids = probabilities.sort(descending=True)
    before = likely.cumsum(-1) - likely
    likely = likely.masked_fill(before >= top_p, 0.0)  # always keeps the most likely one
    return ids.gather(-1, torch.multinomial(likely, 1, generator=generator)).squeeze(-1)


def choose_all(
    logits: Tensor, choosers: Sequence[Chooser], replies: Sequence[Sequence[int]]
) -> list[int | BaseException]:
    """The next token of each row from logits (B, V), or the error in choosing it."""
    chosen: list[int | BaseException] = [0] * len(choosers)
    together: dict[tuple[float, float], list[int]] = {}
    for place, chooser in enumerate(choosers):
        if chooser.choice.is_plain:
            together.setdefault((chooser.choice.temperature, chooser.choice.top_p), []).append(place)
            continue
        try:
            chosen[place] = chooser.choose(logits[place], replies[place])
        except Exception as error:  # from a caller's hook; it must not affect other rows
            chosen[place] = error
    for (temperature, top_p), places in together.items():
        of_rows = logits if len(places) == len(choosers) else logits[places]
        for place, token in zip(places, choose_tokens(of_rows, temperature, top_p).tolist(), strict=True):
            chosen[place] = token
    return chosen
