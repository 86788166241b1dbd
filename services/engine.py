"""The parts every service works with: store, model, twins, replies under way, the pace of training. No rules of its own."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from feedback_store import Store
from services.turns import Turns
from spear_core.config import SpearConfig
from spear_core.continuous_batching import ContinuousBatching
from spear_core.loading import LoadedModel
from spear_core.prompts import padding_token_id
from spear_core.traces import Encoder
from spear_core.twins import Twins

WAIT_PER_WORK = 2.0  # while replies stream, training rests this many times as long as its last piece of work took
LONGEST_WAIT_SECONDS = 30.0
QUIET_SECONDS = 0.05  # after which nobody is likely to come at once


class Closing(Exception):
    """The app is being closed: what is under way is given up, and begun anew at the next start."""


class Pace:
    """Lets training wait while people do: `foreground` around what they wait for, `give_way` between pieces of work."""

    def __init__(self) -> None:
        self._waited_for = 0
        self._quiet_since = -math.inf
        self._is_closing = False
        self._later: Callable[[], object] | None = None
        self._quiet = threading.Condition()
        self._resumed = threading.local()  # .at: when this thread last went back to work

    @contextmanager
    def foreground(self, *, brief: bool = False) -> Iterator[None]:
        """Around a reply that streams. `brief`: around a word that is stored in a moment; others often follow it."""
        with self._quiet:
            self._waited_for += 1
        try:
            yield
        finally:
            with self._quiet:
                self._waited_for -= 1
                if brief:
                    self._quiet_since = time.monotonic()
                later = None if self._waited_for else self._later
                if later:
                    self._later = None
                self._quiet.notify_all()
            if later:
                later()

    def when_quiet(self, work: Callable[[], object]) -> None:
        """Do a short piece of work when nothing is waited for: now, or by whoever ends what is waited for last."""
        with self._quiet:
            if self._waited_for:
                self._later = work
                return
        work()

    def give_way(self) -> None:
        """Wait until nothing is waited for, but at most WAIT_PER_WORK times as long as this thread's last piece of work.

        So people keep most of the machine, and training, however slow its steps, a third of its time. Many short
        requests in a row, such as a thousand votes a minute, count as one long one. Raises Closing after `close`.
        """
        now = time.monotonic()
        worked = now - getattr(self._resumed, "at", now)
        deadline = now + min(WAIT_PER_WORK * worked, LONGEST_WAIT_SECONDS)
        with self._quiet:
            while not self._is_closing and (left := deadline - (now := time.monotonic())) > 0:
                if not self._waited_for and (left := min(left, self._quiet_since + QUIET_SECONDS - now)) <= 0:
                    break
                self._quiet.wait(left)
            if self._is_closing:
                raise Closing
        self._resumed.at = time.monotonic()

    def job(self, work: Callable[[], object]) -> Callable[[], object]:
        """`work`, before which its thread was idle: what lies before its begin is no work of its own. Closing ends it."""

        def begin() -> object:
            self._resumed.at = time.monotonic()
            with suppress(Closing):
                return work()
            return None

        return begin

    def close(self) -> None:
        """All work ends at its next `give_way`."""
        with self._quiet:
            self._is_closing = True
            self._quiet.notify_all()


@dataclass(frozen=True)
class ModelParts:
    """One base model and what works with it. Another model replaces all of them at once."""

    loaded: LoadedModel
    twins: Twins
    encoder: Encoder

    @classmethod
    def of(cls, loaded: LoadedModel, config: SpearConfig) -> ModelParts:
        return cls(loaded, Twins(loaded.model, config), Encoder(loaded.tokenizer, loaded.context_tokens))


@dataclass
class Engine:
    """A copy (`dataclasses.replace`) keeps its model when another one comes to serve."""

    store: Store
    model: ModelParts
    config: SpearConfig
    data_folder: Path
    seed: int
    pace: Pace = field(default_factory=Pace)
    batching: ContinuousBatching = field(default_factory=ContinuousBatching)
    turns: Turns = field(default_factory=Turns)

    @property
    def loaded(self) -> LoadedModel:
        return self.model.loaded

    @property
    def twins(self) -> Twins:
        return self.model.twins

    @property
    def encoder(self) -> Encoder:
        return self.model.encoder

    @property
    def base(self) -> str:
        """The fingerprint of the base model: adapters, traces and rounds are kept apart by it."""
        return self.loaded.fingerprint

    @property
    def pad_id(self) -> int:
        return padding_token_id(self.loaded.tokenizer)

    @property
    def max_new_tokens(self) -> int:
        return min(self.config.max_new_tokens, self.loaded.settings.max_new_tokens)

    def adapter_folder(self, version: int) -> Path:
        return self.data_folder / "adapters" / self.base / f"v{version:05d}"
