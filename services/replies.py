"""Replies being written: each in a thread of its own, so that a reader may leave and another one come. No storage."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from services.engine import Engine
from spear_core.errors import SpearError
from spear_core.generate import ReplySettings, stream_reply
from spear_core.traces import Messages
from spear_core.twins import Serving

WAIT_SECONDS = 1.0  # a reader looks this often whether the writer is still there


@dataclass(frozen=True)
class Sampling:
    """How first replies are drawn. Raises SpearError for a value that is not allowed."""

    temperature: float = 0.0  # 0: always the most likely token
    top_p: float = 0.95
    max_new_tokens: int = 0  # 0: as many as the model's settings say

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 2:
            raise SpearError(f"The temperature must be from 0 to 2, not {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise SpearError(f"Top-p must be above 0 and at most 1, not {self.top_p}.")
        if not 0 <= self.max_new_tokens <= 100_000:
            raise SpearError("The longest reply must be 0 (as the model says) or a number of tokens above it.")


class Writing:
    """One reply under way. `read` yields it as it grows, to any number of readers; `stop` ends it early."""

    def __init__(self, message_id: str, serving: Serving) -> None:
        self.message_id = message_id
        self.serving = serving
        self.stop = threading.Event()
        self._changed = threading.Condition()
        self._text = ""
        self._error: BaseException | None = None
        self._is_over = False

    def start(self, write: Callable[[Writing], None]) -> None:
        def work() -> None:
            try:
                write(self)
            except BaseException as error:  # for the readers, who are in other threads
                self._error = error
            finally:
                with self._changed:
                    self._is_over = True
                    self._changed.notify_all()

        self._thread = threading.Thread(target=work, name="writing", daemon=True)
        self._thread.start()

    def grow(self, text: str) -> None:
        """The whole reply so far."""
        with self._changed:
            self._text = text
            self._changed.notify_all()

    def read(self) -> Iterator[str]:
        """The reply as it grows, each time whole, until it is over. Raises what the writer raised."""
        seen: str | None = None
        while True:
            with self._changed:
                while not self._is_over and self._text == (seen or ""):
                    self._changed.wait(WAIT_SECONDS)
                is_over, text = self._is_over, self._text
            if text and text != seen:
                seen = text
                yield text
            if is_over:
                break
        if self._error:
            raise self._error

    def wait(self) -> None:
        self._thread.join()


def growing(
    writing: Writing, engine: Engine, prompt: Messages, sampling: Sampling, banned: Sequence[list[int]]
) -> Iterator[str]:
    """The reply as it grows, by what serves when its turn has come: it may have waited over a swap."""

    def model() -> Any:
        writing.serving = engine.twins.serving
        return writing.serving.model

    settings = ReplySettings(
        engine.loaded.context_tokens,
        sampling.max_new_tokens or engine.max_new_tokens,
        sampling.temperature,
        sampling.top_p,
        banned,
    )
    if engine.batching.takes(engine.twins.base):
        yield from engine.batching.stream(model, engine.loaded.tokenizer, prompt, settings, writing.stop)
        return
    with engine.turns.turn(writing.stop):
        if not writing.stop.is_set():
            yield from stream_reply(model(), engine.loaded.tokenizer, prompt, settings, writing.stop)
