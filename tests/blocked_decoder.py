"""Hold all replies back for a while: what a test does with an app in which many wait."""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType
from typing import Any, Self

from spear_core.inference.continuous_batching import ContinuousBatching
from spear_core.inference.generate import ReplySettings

WAIT = 60.0


class _Released(Exception):
    pass


class HeldReplies:
    """A reply in the same batch that never begins: what is asked for inside the `with` waits until its end."""

    def __init__(self, batching: ContinuousBatching, tokenizer: Any) -> None:
        self._batching = batching
        self._reached, self._opened = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(tokenizer,), daemon=True)

    def _hold(self, tokenizer: Any) -> None:
        def model() -> Any:
            self._reached.set()
            self._opened.wait(WAIT)
            raise _Released

        messages = [{"role": "user", "content": "Hello!"}]
        with contextlib.suppress(_Released):
            list(self._batching.stream(model, tokenizer, messages, ReplySettings(64, 1)))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._reached.wait(WAIT)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def until(self, waiting: int) -> None:
        """Return when so many wait."""
        tick = threading.Event()
        for _ in range(3000):
            if len(self._batching._waiting) == waiting:
                return
            tick.wait(0.01)
        raise AssertionError(f"{len(self._batching._waiting)} wait, not {waiting}")

    def release(self) -> None:
        self._opened.set()
        self._thread.join(WAIT)
