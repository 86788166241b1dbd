"""Replies to many prompts at once, as text, for revisions, self-play and evaluation. No streaming, no storage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from spear_core.inference.continuous_batching import before_stop
from spear_core.inference.generate import ReplySettings
from spear_core.inference.generation import Finish, generate
from spear_core.models.causal_model import CausalModel
from spear_core.models.prompts import decode_reply
from spear_core.training.traces import Messages


@dataclass(frozen=True)
class Reply:
    """One reply: its text without surrounding space, its tokens without the end token, and why it ended."""

    text: str
    tokens: tuple[int, ...]
    finish: Finish


def sample_replies(
    model: CausalModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Messages],
    settings: ReplySettings,
    *,
    samples: int = 1,
    batch_size: int = 32,
    priority: Callable[[], None] = lambda: None,
) -> list[list[Reply]]:
    """Generate `samples` replies to each prompt, in the order of the prompts.

    Args:
        model: with or without an adapter.
        tokenizer: of the model.
        prompts: conversations; their oldest messages are dropped where they do not fit.
        settings: how replies are decoded.
        samples: for each prompt. Greedy ones are all equal and computed once.
        batch_size: the most rows at a time.
        priority: called before each forward pass; may wait.
    """
    drawn = samples if settings.temperature > 0 else 1
    requests = [settings.request(tokenizer, prompt) for prompt in prompts for _ in range(drawn)]
    made = generate(model, requests, batch_size=batch_size, priority=priority)
    replies = []
    begun = settings.begun_ids(tokenizer)
    for reply in made:
        text = before_stop(decode_reply(tokenizer, [*begun, *reply.tokens]), settings.stop_strings)
        replies.append(Reply(text.strip(), tuple(reply.tokens), reply.finish))
    return [replies[i : i + drawn] * (samples // drawn) for i in range(0, len(replies), drawn)]


def replies(
    model: CausalModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Messages],
    *,
    context_tokens: int,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 0.95,
    batch_size: int = 32,
    samples: int = 1,
    skips_thought: bool = True,
    priority: Callable[[], None] = lambda: None,
) -> list[list[str]]:
    """The texts of `sample_replies`. Thinking models answer without a thought, unless `skips_thought` is False."""
    settings = ReplySettings(context_tokens, max_new_tokens, temperature, top_p, skips_thought=skips_thought)
    made = sample_replies(
        model, tokenizer, prompts, settings, samples=samples, batch_size=batch_size, priority=priority
    )
    return [[reply.text for reply in of_prompt] for of_prompt in made]


def answer_all(
    model: CausalModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Messages], **how: Any
) -> list[str]:
    """One reply to each prompt. Takes the arguments of `replies`."""
    return [first for first, *_ in replies(model, tokenizer, prompts, **how)]
