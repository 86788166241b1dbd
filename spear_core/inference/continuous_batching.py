"""Continuous batching: one thread drives the decoding engine and streams replies to many readers. No storage, no training.

A new reply joins at the next step; it does not wait for the end of earlier ones. Rows of different models, such as two
versions of an adapter, are decoded in turn, one token each.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from queue import SimpleQueue

import torch
from transformers import PreTrainedTokenizerBase

from spear_core.inference.generate import ReplySettings, raise_failure
from spear_core.inference.generation import Decoder, Finish, Request, Row
from spear_core.inference.prefix_cache import Prefix, PrefixCache
from spear_core.models.causal_model import CausalModel
from spear_core.models.prompts import decode_reply
from spear_core.own_thread import end_openmp_helpers
from spear_core.training.traces import Messages

MOST_ROWS = 16
MOST_CELLS = 32_768  # rows times the longest of them, which limits the cache: about a gigabyte at 1.5 B parameters
HALF_A_CHARACTER = "\ufffd"  # what the bytes of an incomplete character decode to
IDLE_SECONDS = 10.0  # after which an idle thread ends; the next reply starts another


@dataclass(eq=False)
class _Asked:
    """A reply that was asked for."""

    model: Callable[[], CausalModel]  # called when the reply starts; gives the model
    request: Request
    stops: tuple[threading.Event, ...]
    prefixes: PrefixCache
    conversation: str | None  # whose prefix may be kept there
    unread: SimpleQueue[int | None] = field(default_factory=SimpleQueue)  # tokens for the reader; None marks the end
    finish: Finish | None = None
    failure: BaseException | None = None

    @property
    def is_unwanted(self) -> bool:
        return any(stop.is_set() for stop in self.stops)

    @property
    def width(self) -> int:
        return len(self.request.prompt) + self.request.max_new_tokens

    def request_to(self, model: CausalModel) -> Request:
        """The request to the engine, with the prefix that this model has kept of the conversation."""
        request = replace(self.request, on_token=self.unread.put, is_unwanted=lambda: self.is_unwanted)
        conversation = self.conversation
        if conversation is None:
            return request

        def keep(prefix: Prefix) -> None:
            if not self.is_unwanted:  # a stopped reply keeps no prefix, because its conversation may be deleted
                self.prefixes.put(model, conversation, prefix)

        known = self.prefixes.find(model, conversation, request.prompt)
        return replace(request, prefix=known, keep_prefix=keep)

    def end(self, finish: Finish | None = None, failure: BaseException | None = None) -> None:
        self.finish, self.failure = finish, failure
        self.unread.put(None)


@dataclass(eq=False)
class _Batch:
    """The replies of one model, each with its row."""

    decoder: Decoder
    asked: list[tuple[_Asked, Row]] = field(default_factory=list)

    def join(self, new: Sequence[_Asked]) -> None:
        try:
            rows = self.decoder.join([asked.request_to(self.decoder.model) for asked in new])
        except BaseException as error:  # only the new replies fail; those in progress are unchanged
            for asked in new:
                asked.end(failure=error)
            return
        self.asked += zip(new, rows, strict=True)
        self._let_go()

    def step(self) -> None:
        try:
            self.decoder.step()
        except BaseException as error:  # raised in the readers of this batch; the thread continues
            for asked, _ in self.asked:
                asked.end(failure=error)
            self.asked = []
            return
        self._let_go()

    def _let_go(self) -> None:
        stay = []
        for asked, row in self.asked:
            if row.finish is None and row.failure is None:
                stay.append((asked, row))
            else:
                asked.end(row.finish, row.failure)
        self.asked = stay


class ContinuousBatching:
    """Decodes replies of many callers together. `stream` may be called from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[_Asked] = deque()
        self._thread: threading.Thread | None = None
        self.prefixes = PrefixCache()

    def stream(
        self,
        model: Callable[[], CausalModel],
        tokenizer: PreTrainedTokenizerBase,
        messages: Messages,
        settings: ReplySettings,
        stop: threading.Event | None = None,
        conversation: str | None = None,
        on_finish: Callable[[Finish], None] = lambda finish: None,
    ) -> Iterator[str]:
        """Yield the whole text of a reply after each change. Replies start in the order of the calls.

        Args:
            model: called when the reply starts; all replies wait for it, so it must be quick.
            tokenizer: of the model.
            messages: the prompt.
            settings: how the reply is decoded.
            stop: ends the reply early once it is set.
            conversation: whose prefix is used and kept; None: none.
            on_finish: called with the reason for which the reply ended.

        Raises:
            OutOfMemory: there was not enough memory.
            Exception: what failed in the generation.
        """
        unwanted = threading.Event()
        asked = _Asked(
            model,
            settings.request(tokenizer, messages),
            (stop or threading.Event(), unwanted),
            self.prefixes,
            conversation,
        )
        with self._changed:
            self._waiting.append(asked)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="replies", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            yield from _texts(asked.unread, tokenizer, settings.stop_strings, settings.begun_ids(tokenizer))
        finally:
            unwanted.set()  # the reader may have stopped in the middle
        if asked.failure:
            raise_failure(asked.failure)
        on_finish(asked.finish or Finish.STOPPED)

    # -- the thread ------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _work(self) -> None:
        batches: list[_Batch] = []
        while (joining := self._next(batches)) or batches:
            batches = _one_step(batches, joining)

    def _next(self, batches: Sequence[_Batch]) -> list[_Asked]:
        """Take the replies that may start now from the queue; stopped ones are removed.

        Waits while there is nothing to do, and ends the thread after IDLE_SECONDS.
        """
        with self._changed:
            for unwanted in [asked for asked in self._waiting if asked.is_unwanted]:
                self._waiting.remove(unwanted)
                unwanted.end(Finish.STOPPED)
            if not batches and not self._waiting:
                end_openmp_helpers()  # or a round's operations would be slower while nobody asks
                self._changed.wait_for(lambda: bool(self._waiting), IDLE_SECONDS)
                if not self._waiting:
                    self._thread = None
            together = [asked for batch in batches for asked, _ in batch.asked]
            joining: list[_Asked] = []
            while self._waiting and _fits(together, self._waiting[0]):
                joining.append(self._waiting.popleft())
                together.append(joining[-1])
            return joining


def _fits(together: Sequence[_Asked], another: _Asked) -> bool:
    rows, widest = len(together) + 1, max(asked.width for asked in (*together, another))
    return rows == 1 or (rows <= MOST_ROWS and rows * widest <= MOST_CELLS)


def _one_step(batches: list[_Batch], joining: Sequence[_Asked]) -> list[_Batch]:
    """The first token of the joining replies, then one token of each other. Returns the batches that continue."""
    under_way = list(batches)
    for model, new in _by_model(joining):
        batch = next((b for b in batches if b.decoder.model is model), None)
        if batch is None:
            batch = _Batch(Decoder(model))
            batches = [*batches, batch]
        batch.join(new)
    for batch in under_way:
        batch.step()
    return [batch for batch in batches if batch.asked]


def _by_model(joining: Sequence[_Asked]) -> list[tuple[CausalModel, list[_Asked]]]:
    of_model: dict[int, tuple[CausalModel, list[_Asked]]] = {}
    for asked in joining:
        if asked.is_unwanted:
            asked.end(Finish.STOPPED)
            continue
        try:
            model = asked.model()
        except BaseException as error:
            asked.end(failure=error)
            continue
        of_model.setdefault(id(model), (model, []))[1].append(asked)
    return list(of_model.values())


def _texts(
    unread: SimpleQueue[int | None],
    tokenizer: PreTrainedTokenizerBase,
    stop_strings: Sequence[str] = (),
    begun: Sequence[int] = (),
) -> Iterator[str]:
    """Yield the whole text after each change, until the tokens end; cut before a stop string.

    Parts of words are yielded, so that the first word does not wait for the second. Incomplete characters are not, nor
    parts of words with a tokenizer that changes earlier text when more follows (clean_up_tokenization_spaces).

    Args:
        unread: the tokens; None marks the end.
        tokenizer: decodes them.
        stop_strings: end the text.
        begun: tokens of a reply that is continued; they are part of the text.
    """
    tokens = list(begun)
    shown, is_over = decode_reply(tokenizer, tokens).strip(), False
    while not is_over:
        came = [unread.get()]
        while not unread.empty():
            came.append(unread.get())
        is_over = came[-1] is None
        tokens += [token for token in came if token is not None]
        text = before_stop(decode_reply(tokenizer, tokens), stop_strings)
        if not is_over and text.endswith(HALF_A_CHARACTER):
            continue
        if not is_over and getattr(tokenizer, "clean_up_tokenization_spaces", False):
            text = text[: text.rfind(" ") + 1]
        if text.strip() not in ("", shown):
            shown = text.strip()
            yield shown


def before_stop(text: str, stop_strings: Sequence[str]) -> str:
    """The text up to the first stop string in it."""
    return text[: min((at for at in map(text.find, stop_strings) if at >= 0), default=len(text))]
