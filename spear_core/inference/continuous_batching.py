"""Replies to many readers at once, streamed and decoded together. No storage, no training.

Continuous batching (Yu et al., OSDI 2022): after every token, rows that ended leave and replies that waited join. One
thread computes them all, so that who asks last waits for a step and not for the replies of those who asked before.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers.generation.logits_process import NoBadWordsLogitsProcessor

from spear_core.inference.decoding import Decoding, Rows
from spear_core.inference.generate import ReplySettings, raise_failure
from spear_core.inference.prefix_cache import Prefix, PrefixCache
from spear_core.models.prompts import end_token_ids, padding_token_id
from spear_core.training.traces import Messages

log = logging.getLogger(__name__)
MOST_ROWS = 16
MOST_CELLS = 32_768  # rows times the longest of them: what the cache may hold, about a gigabyte at 1.5 B parameters
HALF_A_CHARACTER = "\ufffd"  # what bytes decode to before the rest of their character has come
IDLE_SECONDS = 10.0  # after which the thread ends; the next reply starts another


@dataclass(eq=False)
class _Asked:
    """One reply that is waited for."""

    model: Callable[[], Any]  # called when its turn has come: the model that writes it
    prompt: list[int]
    decoding: Decoding
    banned: NoBadWordsLogitsProcessor | None
    stops: tuple[threading.Event, ...]
    prefixes: PrefixCache
    conversation: str | None  # whose earlier replies may have been kept there
    unread: SimpleQueue[int | None] = field(default_factory=SimpleQueue)  # tokens for the reader; None: no more
    tokens: list[int] = field(default_factory=list)
    failure: BaseException | None = None

    @property
    def is_unwanted(self) -> bool:
        return any(stop.is_set() for stop in self.stops)

    @property
    def width(self) -> int:
        return len(self.prompt) + self.decoding.new_tokens

    def known_by(self, model: Any) -> Prefix | None:
        """What the model has computed of the prompt already."""
        return None if self.conversation is None else self.prefixes.find(model, self.conversation, self.prompt)

    def keep(self, model: Any, rows: Rows, place: int) -> None:
        """For the next reply of the conversation. One that was stopped leaves nothing: the conversation may be deleted."""
        if self.conversation is not None and not self.is_unwanted:
            self.prefixes.put(model, self.conversation, rows.row(place, [*self.prompt, *self.tokens]))

    def choose(self, logits: Tensor) -> int:
        """The next token, from (V,)."""
        scores = logits.unsqueeze(0)
        if self.banned is not None:
            ids = torch.tensor([[*self.prompt, *self.tokens]], device=logits.device)
            scores = self.banned(ids, scores)
        return int(self.decoding.choose(scores))

    def take(self, token: int) -> bool:
        """Hand a token to the reader. True where the reply goes on."""
        if token in self.decoding.end_ids:
            return False
        self.tokens.append(token)
        self.unread.put(token)
        return len(self.tokens) < self.decoding.new_tokens

    def end(self, failure: BaseException | None = None) -> None:
        self.failure = failure
        self.unread.put(None)


@dataclass(eq=False)
class _Batch:
    """Replies of one model, their rows, and the token of each that goes in next."""

    model: Any
    asked: list[_Asked]
    rows: Rows = field(init=False)
    next: list[int] = field(default_factory=list)

    def guarded(self, work: Callable[[], None]) -> None:
        """An error in the work is the readers' of this batch; the thread goes on."""
        try:
            work()
        except BaseException as error:
            for asked in self.asked:
                asked.end(error)
            self.asked = []

    def begin(self) -> None:
        """Compute the prompts and choose the first tokens."""
        prompts, pad_id = [asked.prompt for asked in self.asked], self.asked[0].decoding.pad_id
        begun = Rows.begin(self.model, prompts, pad_id, [asked.known_by(self.model) for asked in self.asked])
        if begun is None:
            raise ValueError("this model's cache is not a plain one; ask `takes` first")
        self.rows, logits = begun
        self._settle(logits)

    def step(self) -> None:
        self._settle(self.rows.advance(self.model, torch.tensor(self.next, device=self.rows.seen.device)))

    def join(self, others: _Batch) -> None:
        self.asked += others.asked
        self.next += others.next
        self.rows.join(others.rows)

    def _settle(self, logits: Tensor) -> None:
        """Give each reply its token; those that end, or that nobody waits for any more, leave."""
        stay: list[int] = []
        self.next = []
        for place, asked in enumerate(self.asked):
            token = asked.choose(logits[place])
            if not asked.is_unwanted and asked.take(token):
                stay.append(place)
                self.next.append(token)
            else:
                asked.keep(self.model, self.rows, place)
                asked.end()
        if len(stay) < len(self.asked):
            self.asked = [self.asked[place] for place in stay]
            if stay:
                self.rows.keep(stay)


class ContinuousBatching:
    """`stream` may be called from any thread. Models whose cache is not a plain one are not for it: see `takes`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[_Asked] = deque()
        self._thread: threading.Thread | None = None
        self._taken: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
        self.prefixes = PrefixCache()

    @torch.inference_mode()
    def takes(self, base: Any) -> bool:
        """Whether replies of this model, and of adapters over it, can be decoded together: tried out once."""
        if base not in self._taken:
            try:
                self._taken[base] = Rows.begin(base, [[0]], 0) is not None
            except Exception as error:  # a model that takes no cache or no positions
                log.info("replies of this model are not decoded together (%s: %s)", type(error).__name__, error)
                self._taken[base] = False
        return self._taken[base]

    def stream(
        self,
        model: Callable[[], Any],
        tokenizer: Any,
        messages: Messages,
        settings: ReplySettings,
        stop: threading.Event | None = None,
        conversation: str | None = None,
    ) -> Iterator[str]:
        """`spear_core.generate.stream_reply`, by what `model` returns when the reply's turn has come.

        First come, first served. `model` must be quick: all replies wait for it. What the same model computed for an
        earlier reply of the `conversation` is not computed again.
        """
        ends = end_token_ids(tokenizer)
        unwanted = threading.Event()
        asked = _Asked(
            model,
            settings.encode(tokenizer, messages),
            Decoding(
                settings.new_tokens, frozenset(ends), padding_token_id(tokenizer), settings.temperature, settings.top_p
            ),
            NoBadWordsLogitsProcessor(list(settings.banned), ends) if settings.banned else None,
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
            yield from _texts(asked.unread, tokenizer)
        finally:
            unwanted.set()  # the reader may have gone away in the middle
        if asked.failure:
            raise_failure(asked.failure)

    # -- the thread ------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _work(self) -> None:
        batches: list[_Batch] = []
        while (joining := self._next(batches)) or batches:
            batches = _one_step(batches, joining)

    def _next(self, batches: Sequence[_Batch]) -> list[_Asked]:
        """Those of the waiting whose turn has come; those that nobody waits for any more leave the queue.

        Waits where there is nothing to do; ends the thread after a while.
        """
        with self._changed:
            for unwanted in [asked for asked in self._waiting if asked.is_unwanted]:
                self._waiting.remove(unwanted)
                unwanted.end()
            if not batches and not self._waiting:
                self._changed.wait_for(lambda: bool(self._waiting), IDLE_SECONDS)
                if not self._waiting:
                    self._thread = None
            together = [asked for batch in batches for asked in batch.asked]
            joining: list[_Asked] = []
            while self._waiting and _fits(together, self._waiting[0]):
                joining.append(self._waiting.popleft())
                together.append(joining[-1])
            return joining


def _fits(together: Sequence[_Asked], another: _Asked) -> bool:
    rows, widest = len(together) + 1, max(asked.width for asked in (*together, another))
    return rows == 1 or (rows <= MOST_ROWS and rows * widest <= MOST_CELLS)


def _one_step(batches: list[_Batch], joining: Sequence[_Asked]) -> list[_Batch]:
    """The first token for those that join, who have waited, then one for every reply under way. What goes on."""
    begun = list(_begun(joining))
    for batch in batches:
        batch.guarded(batch.step)
    for new in begun:
        same = next((batch for batch in batches if batch.asked and batch.model is new.model), None)
        if same:
            same.guarded(partial(same.join, new))
        else:
            batches = [*batches, new]
    return [batch for batch in batches if batch.asked]


def _begun(joining: Sequence[_Asked]) -> Iterator[_Batch]:
    """A batch for each model, with the first tokens chosen."""
    of_model: dict[int, _Batch] = {}
    for asked in joining:
        if asked.is_unwanted:
            asked.end()
            continue
        try:
            model = asked.model()
        except BaseException as error:
            asked.end(error)
            continue
        of_model.setdefault(id(model), _Batch(model, [])).asked.append(asked)
    for batch in of_model.values():
        batch.guarded(batch.begin)
        if batch.asked:
            yield batch


def _texts(unread: SimpleQueue[int | None], tokenizer: Any) -> Iterator[str]:
    """The whole text so far, each time that it grew, until the tokens end.

    Parts of words too, or the first word would wait for a token more: but no half of a character, and whole words alone
    where the tokenizer changes what stands before a space once it sees what follows.
    """
    tokens: list[int] = []
    shown, is_over = "", False
    while not is_over:
        came = [unread.get()]
        while not unread.empty():
            came.append(unread.get())
        is_over = came[-1] is None
        tokens += [token for token in came if token is not None]
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        if not is_over and text.endswith(HALF_A_CHARACTER):
            continue
        if not is_over and getattr(tokenizer, "clean_up_tokenization_spaces", False):
            text = text[: text.rfind(" ") + 1]
        if text.strip() not in ("", shown):
            shown = text.strip()
            yield shown
