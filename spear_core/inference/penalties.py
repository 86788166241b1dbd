"""OpenAI's frequency and presence penalties, as a hook of the decoding engine. Pure functions of logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spear_core.inference.token_choice import LogitsHook


def penalty_hook(frequency: float, presence: float) -> LogitsHook | None:
    """Lower each token's logit by `frequency` for every time the reply has said it, and once by `presence`.

    The formula is that of OpenAI's API reference; what counts is the reply, not the prompt. None where both are 0.
    """
    if not frequency and not presence:
        return None

    def penalised(reply: Sequence[int], logits: Tensor) -> Tensor:
        if not reply:
            return logits
        tokens, counts = torch.tensor(list(reply), device=logits.device).unique(return_counts=True)
        lowered = logits.clone()  # (V,)
        lowered[tokens] -= frequency * counts + presence
        return lowered

    return penalised
