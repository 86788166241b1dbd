"""Replies by transformers' own `generate`, one at a time: what the engine's are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from spear_core.inference.generate import ReplySettings
from spear_core.models.prompts import end_token_ids
from spear_core.training.traces import Messages


def plain_tokens(
    model: Any, prompt: Sequence[int], max_new_tokens: int, end_ids: Sequence[int], banned: Sequence[list[int]] = ()
) -> list[int]:
    """A greedy reply without its end token."""
    with torch.inference_mode():
        made = model.generate(
            input_ids=torch.tensor([list(prompt)]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=max_new_tokens,
            eos_token_id=sorted(end_ids),
            pad_token_id=0,
            bad_words_ids=list(banned) or None,
            do_sample=False,
        )[0, len(prompt) :].tolist()
    return [token for token in made if token not in end_ids]


def plain_reply(model: Any, tokenizer: Any, messages: Messages, settings: ReplySettings) -> str:
    prompt, ends = settings.encode(tokenizer, messages), end_token_ids(tokenizer)
    banned = [list(b) for b in settings.banned]
    return str(
        tokenizer.decode(plain_tokens(model, prompt, settings.new_tokens, ends, banned), skip_special_tokens=True)
    ).strip()
