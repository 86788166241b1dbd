"""Continuation of plain text by the model that serves, without chat template and conversation. Nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields, replace

from transformers import PreTrainedTokenizerBase

from services.chat.sampling import Sampling
from services.engine import Engine
from services.settings import MAX_MESSAGE_CHARACTERS
from spear_core.errors import SpearError
from spear_core.inference.generate import ReplySettings
from spear_core.inference.generation import Finish
from spear_core.models.prompts import encode_text
from spear_core.training.traces import Messages


class _BareText(ReplySettings):
    """Encodes the text of the last message as the prompt; a text that is too long loses its beginning."""

    def encode(self, tokenizer: PreTrainedTokenizerBase, messages: Messages) -> list[int]:
        start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
        room = self.context_tokens - self.new_tokens - len(start)
        return [*start, *encode_text(tokenizer, messages[-1]["content"])[-room:]]


def continue_text(
    engine: Engine, text: str, sampling: Sampling, on_finish: Callable[[Finish], None] = lambda finish: None
) -> Iterator[str]:
    """Yield the whole continuation after each change. Raises SpearError for an empty or overlong text."""
    if not text or len(text) > MAX_MESSAGE_CHARACTERS:
        raise SpearError(f"A prompt has 1 to {MAX_MESSAGE_CHARACTERS:,} characters.")
    engine = replace(engine)  # a copy, so that a change of the base model does not reach this reply
    asked = sampling.settings(engine)
    settings = _BareText(**{field.name: getattr(asked, field.name) for field in fields(asked)})
    with engine.priority.foreground(), ExitStack() as until_its_first_text:
        until_its_first_text.enter_context(engine.priority.urgent())
        for said in engine.batching.stream(
            lambda: engine.shared_models.serving.model,
            engine.loaded.tokenizer,
            [{"role": "user", "content": text}],
            settings,
            on_finish=on_finish,
        ):
            until_its_first_text.close()
            yield said


def count_tokens(engine: Engine, text: str) -> int:
    """The length of a text in tokens of the model that serves."""
    return len(encode_text(engine.loaded.tokenizer, text)) if text else 0
