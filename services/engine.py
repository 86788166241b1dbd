"""The parts every service works with: store, model, twins, and the pace between chat and training. No rules of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from feedback_store import Store
from spear_core.config import SpearConfig
from spear_core.loading import LoadedModel
from spear_core.traces import Encoder
from spear_core.twins import Twins

LONGEST_WAIT_SECONDS = 0.5  # of one micro-step for replies under way, so that training never starves


class Pace:
    """Lets training wait while a reply streams: `replying` around a reply, `give_way` between micro-steps."""

    def __init__(self) -> None:
        self._replies = 0
        self._quiet = threading.Condition()

    @contextmanager
    def replying(self) -> Iterator[None]:
        with self._quiet:
            self._replies += 1
        try:
            yield
        finally:
            with self._quiet:
                self._replies -= 1
                self._quiet.notify_all()

    def give_way(self) -> None:
        """Wait until no reply streams, at most LONGEST_WAIT_SECONDS."""
        deadline = time.monotonic() + LONGEST_WAIT_SECONDS
        with self._quiet:
            while self._replies and (left := deadline - time.monotonic()) > 0:
                self._quiet.wait(left)


@dataclass
class Engine:
    store: Store
    loaded: LoadedModel
    twins: Twins
    encoder: Encoder
    config: SpearConfig
    data_folder: Path
    seed: int
    pace: Pace = field(default_factory=Pace)

    @property
    def base(self) -> str:
        """The fingerprint of the base model: adapters, traces and rounds are kept apart by it."""
        return self.loaded.fingerprint

    @property
    def pad_id(self) -> int:
        tokenizer = self.loaded.tokenizer
        return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(self.encoder.end_ids))

    @property
    def max_new_tokens(self) -> int:
        return min(self.config.max_new_tokens, self.loaded.settings.max_new_tokens)

    def adapter_folder(self, version: int) -> Path:
        return self.data_folder / "adapters" / self.base / f"v{version:05d}"
