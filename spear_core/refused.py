"""What a revision must not say again: where to leave a refused answer. No generation."""

from __future__ import annotations

from typing import Any

import torch

from spear_core.scoring import score
from spear_core.traces import Encoder, Messages


@torch.no_grad()
def way_out(model: Any, encoder: Encoder, pad_id: int, asked: Messages, refused: str) -> list[int] | None:
    """A refused answer's tokens up to the one that the model, asked so, is least certain of; None for an empty answer.

    A generation that may not complete this sequence says something else exactly there, where the model sees the best
    alternatives. The end of the answer is no such place: without it the answer would only go on.
    """
    encoded = encoder.plain(asked, refused)
    words = [i for i, token in enumerate(encoded.completion_ids) if token not in encoder.end_ids]
    if not words:
        return None
    logps = score(model, [encoded], pad_id).logps[0]  # (C,)
    least = min(words, key=lambda i: float(logps[i]))
    return list(encoded.completion_ids[: least + 1])
