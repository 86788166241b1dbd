"""What a revision must not say again: where to leave a refused answer. No generation."""

from __future__ import annotations

import math

import torch

from spear_core.models.causal_model import CausalModel
from spear_core.models.prompts import encode_no_thought
from spear_core.training.scoring import score
from spear_core.training.traces import Encoder, Messages

SURE = 0.95  # probability of a whole refused answer's least certain token above which there is no way out


@torch.no_grad()
def least_certain_prefix(
    model: CausalModel, encoder: Encoder, pad_id: int, asked: Messages, refused: str
) -> list[int] | None:
    """A refused answer's tokens up to the one that the model, asked so, is least certain of.

    None for an empty answer, and where the model is sure of every token: what it would be made to say is no word at all.
    A generation that may not complete this sequence says something else exactly there, where the model sees the best
    alternatives. The end of the answer is no such place: without it the answer would only go on.
    """
    encoded = encoder.plain(asked, refused)
    begin = len(encode_no_thought(encoder.tokenizer))  # a revision is written without a thought
    words = [i for i, token in enumerate(encoded.completion_ids) if token not in encoder.end_ids and i >= begin]
    if not words:
        return None
    logps = score(model, [encoded], pad_id).logps[0]  # (C,)
    least = min(words, key=lambda i: float(logps[i]))
    if math.exp(float(logps[least])) > SURE:
        return None
    return list(encoded.completion_ids[begin : least + 1])
