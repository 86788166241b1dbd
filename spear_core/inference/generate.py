"""Settings of one reply, and the engine's request for it. No decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from transformers import PreTrainedTokenizerBase

from spear_core.errors import OutOfMemory, is_out_of_memory
from spear_core.inference.generation import Request
from spear_core.inference.token_choice import Choice, LogitsHook
from spear_core.models.prompts import encode_completion, encode_no_thought, encode_prompt, end_token_ids
from spear_core.training.traces import Messages


@dataclass(frozen=True)
class ReplySettings:
    """How one reply is decoded. Temperature 0 is greedy; the sequences of tokens in `banned` never occur."""

    context_tokens: int
    max_new_tokens: int  # see `new_tokens`
    temperature: float = 0.0
    top_p: float = 0.95
    banned: Sequence[Sequence[int]] = ()
    seed: int | None = None  # of sampling; None: unseeded
    repetition_penalty: float = 1.0  # 1: none
    no_repeat_ngram: int = 0  # 0: off
    stop_strings: tuple[str, ...] = ()  # end the reply and are not part of it
    hook: LogitsHook | None = None
    begun: str = ""  # text of a reply that is continued
    skips_thought: bool = False  # a thinking model answers without a thought

    @property
    def new_tokens(self) -> int:
        """The longest reply in tokens: `max_new_tokens`, but at most half of the context."""
        return min(self.max_new_tokens, self.context_tokens // 2)

    @property
    def choice(self) -> Choice:
        """How the engine chooses tokens under these settings."""
        return Choice(
            self.temperature,
            self.top_p,
            self.seed,
            self.repetition_penalty,
            self.no_repeat_ngram,
            tuple(tuple(b) for b in self.banned),
            self.hook,
        )

    def encode(self, tokenizer: PreTrainedTokenizerBase, messages: Messages) -> list[int]:
        """Token ids of the prompt, without its oldest messages where they do not fit, and of the text to continue."""
        begun = self.begun_ids(tokenizer)
        room = self.context_tokens - self.new_tokens - len(begun)
        return [*encode_prompt(tokenizer, list(messages), max_tokens=room), *begun]

    def begun_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Token ids of the text to continue, or of an empty thought where thoughts are skipped."""
        if self.begun:
            return encode_completion(tokenizer, self.begun, ended=False)
        return encode_no_thought(tokenizer) if self.skips_thought else []

    def request(self, tokenizer: PreTrainedTokenizerBase, messages: Messages) -> Request:
        """The request to the decoding engine. Raises as `encode_prompt`."""
        return Request(
            self.encode(tokenizer, messages),
            self.new_tokens,
            frozenset(end_token_ids(tokenizer)),
            self.choice,
            self.stop_strings,
            (lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True))) if self.stop_strings else None,
        )


def raise_failure(error: BaseException) -> NoReturn:
    """Raise the error of a reply in the thread of its reader, as OutOfMemory where it was one."""
    if is_out_of_memory(error):
        raise OutOfMemory("there is not enough memory for this reply; close other programs and ask again") from error
    raise error
