"""One reply, streamed by transformers' own generate: for every model that it knows. No training, no storage."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from spear_core.errors import OutOfMemory, is_out_of_memory
from spear_core.models.prompts import encode_prompt, end_token_ids, padding_token_id
from spear_core.training.traces import Messages

_FIRST_TOKEN_TIMEOUT_SECONDS = 600.0


class _Stop(StoppingCriteria):
    """Ends a generation when one of the events is set."""

    def __init__(self, *events: threading.Event) -> None:
        self.events = events

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        ended = any(event.is_set() for event in self.events)
        return torch.full((input_ids.shape[0],), ended, device=input_ids.device)


def _sampling(temperature: float, top_p: float) -> dict[str, Any]:
    if temperature <= 0:
        return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    return {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}


@dataclass(frozen=True)
class ReplySettings:
    """How one reply is made. Temperature 0 is greedy; no sequence of tokens in `banned` is ever completed."""

    context_tokens: int
    max_new_tokens: int  # half of the context at most
    temperature: float = 0.0
    top_p: float = 0.95
    banned: Sequence[list[int]] = ()

    @property
    def new_tokens(self) -> int:
        return min(self.max_new_tokens, self.context_tokens // 2)

    def encode(self, tokenizer: Any, messages: Messages) -> list[int]:
        """The conversation, cut from its oldest side so that the reply fits too."""
        return encode_prompt(tokenizer, list(messages), max_tokens=self.context_tokens - self.new_tokens)


def stream_reply(
    model: Any, tokenizer: Any, messages: Messages, settings: ReplySettings, stop: threading.Event | None = None
) -> Iterator[str]:
    """Yield the reply as it grows (each item is the whole text so far).

    `stop` ends it early. An error in generation is raised here.
    """
    ids = settings.encode(tokenizer, messages)
    device = next(model.parameters()).device
    streamer = TextIteratorStreamer(
        tokenizer, skip_prompt=True, timeout=_FIRST_TOKEN_TIMEOUT_SECONDS, skip_special_tokens=True
    )
    stop, unread = stop or threading.Event(), threading.Event()
    failure: list[BaseException] = []

    def work() -> None:
        try:
            inputs = torch.tensor([ids], device=device)
            with torch.inference_mode():
                model.generate(
                    input_ids=inputs,
                    attention_mask=torch.ones_like(inputs),
                    max_new_tokens=settings.new_tokens,
                    eos_token_id=end_token_ids(tokenizer),
                    pad_token_id=padding_token_id(tokenizer),
                    bad_words_ids=list(settings.banned) or None,
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([_Stop(stop, unread)]),
                    **_sampling(settings.temperature, settings.top_p),
                )
        except BaseException as e:
            failure.append(e)
            streamer.end()

    worker = threading.Thread(target=work, name="reply", daemon=True)
    worker.start()
    try:
        yield from texts(streamer)
    finally:
        unread.set()  # the reader may have gone away in the middle
        worker.join()
    if failure:
        raise_failure(failure[0])


def texts(streamer: TextIteratorStreamer) -> Iterator[str]:
    """The whole text so far, each time that it grew, until the streamer ends."""
    text = ""
    for piece in streamer:
        if piece:
            text += piece
            yield text.strip()


def raise_failure(error: BaseException) -> NoReturn:
    """What went wrong in a reply, for who waits for it. Raises OutOfMemory where that is what it was."""
    if is_out_of_memory(error):
        raise OutOfMemory("there is not enough memory for this reply; close other programs and ask again") from error
    raise error
