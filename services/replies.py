"""Replies being written: each in a thread of its own, so that a reader may leave and another one come. No storage."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from spear_core.twins import Serving

WAIT_SECONDS = 1.0  # a reader looks this often whether the writer is still there


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
