"""How a revision is kept from repeating a refused answer. No generation."""

from __future__ import annotations

import math

import torch

from spear_core.models.causal_model import CausalModel
from spear_core.models.prompts import encode_no_thought
from spear_core.training.scoring import score
from spear_core.training.traces import Encoder, Messages

SURE = 0.95  # probability of the least certain token above which no other answer is forced


@torch.no_grad()
def least_certain_prefix(
    model: CausalModel, encoder: Encoder, pad_id: int, asked: Messages, refused: str
) -> list[int] | None:
    """The tokens of a refused answer up to the one that the model is least certain of.

    If this sequence is banned, the generation differs exactly there, where the model has the best alternatives. End tokens
    do not count: without its end the answer would only continue.

    Args:
        model: that writes the revision.
        encoder: of the model.
        pad_id: padding token.
        asked: the messages of the request for the revision.
        refused: the refused answer.

    Returns:
        Token ids; None for an empty answer, and where the model is certain of every token, because it would be forced to
        write nonsense.
    """
    encoded = encoder.plain(asked, refused)
    begin = len(encode_no_thought(encoder.tokenizer))  # revisions are written without a thought
    words = [i for i, token in enumerate(encoded.completion_ids) if token not in encoder.end_ids and i >= begin]
    if not words:
        return None
    logps = score(model, [encoded], pad_id).logps[0]  # (C,)
    least = min(words, key=lambda i: float(logps[i]))
    if math.exp(float(logps[least])) > SURE:
        return None
    return list(encoded.completion_ids[begin : least + 1])
