"""A logits hook that favours the tokens of a stated answer in one reply. No model.

A small model that is told the answer often writes something similar ("Yvonne Flocher"). The hook gives the first token of
the answer a bonus; once the answer has begun, its tokens follow to the end, and then the end of the sentence gets a bonus.
It works like a pointer into the hint (See et al., 2017, arXiv 1704.04368), without training.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from spear_core.models.prompts import encode_text, end_token_ids

FIRST_BONUS = 3.0  # nats for beginning the answer
BONUS_GROWTH = 0.15  # nats per token by which the bonus grows until the answer begins
SURE = 30.0  # nats: makes or forbids a token
END_BONUS = 4.0  # nats for ending the sentence after the answer


class CopyBias:
    """`hook` of one reply. `answer` is what is to be said, `openings` are texts that the reply must not begin with."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, answer: str, openings: Sequence[str] = ()) -> None:
        self._answers = [encode_text(tokenizer, " " + answer), encode_text(tokenizer, answer)]
        self._firsts = [self._answers[0][0]] if self._answers[0] else []
        self._openings = [encode_text(tokenizer, opening) for opening in openings]
        self._ends = end_token_ids(tokenizer)
        self._stops = sorted({ids[0] for mark in (".", "!", "?") if len(ids := encode_text(tokenizer, mark)) == 1})

    def __call__(self, reply: Sequence[int], logits: Tensor) -> Tensor:
        """The logits (V,) of the next token, changed in place."""
        said = [*reply]
        for opening in self._openings:
            if len(said) == len(opening) - 1 and said == opening[:-1]:
                logits[opening[-1]] -= SURE
        if any(_stands_in(answer, said) for answer in self._answers):
            if said[-1] in self._stops:
                logits[self._ends] += SURE
            else:
                logits[[*self._ends, *self._stops]] += END_BONUS
            return logits
        begun = max((_begun(answer, said) for answer in self._answers), default=0)
        if begun:
            going_on = {answer[begun] for answer in self._answers if _begun(answer, said) == begun}
            logits[sorted(going_on)] += SURE
            return logits
        logits[self._ends] -= SURE
        if said:
            logits[self._firsts] += FIRST_BONUS + BONUS_GROWTH * len(said)
        return logits


def _stands_in(answer: Sequence[int], said: Sequence[int]) -> bool:
    return bool(answer) and any(said[i : i + len(answer)] == answer for i in range(len(said) - len(answer) + 1))


def _begun(answer: Sequence[int], said: Sequence[int]) -> int:
    """How many of the answer's first tokens the reply ends with, if not all of them."""
    return next((n for n in range(min(len(answer) - 1, len(said)), 0, -1) if said[-n:] == answer[:n]), 0)
