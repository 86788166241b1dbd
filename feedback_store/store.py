"""The store: conversations, traces, rounds, adapters and settings in one SQLite file. No torch, no UI."""

from __future__ import annotations

import json
from typing import Any

from feedback_store.adapters import Adapters
from feedback_store.branches import Branches
from feedback_store.database import to_json
from feedback_store.maintenance import Upkeep
from feedback_store.neighbours import KeptNeighbours
from feedback_store.peers import Peers
from feedback_store.progress import Progress
from feedback_store.transfer import Transfer

PREFERENCE = "preference/"  # prefix of the keys of preferences


class Store(Transfer, Branches, Progress, Adapters, KeptNeighbours, Upkeep, Peers):
    """Everything the app remembers, in the SQLite file `path`, which is created where it is missing.

    Threads may share one Store; every public method is one transaction, on the disk when it returns
    (`transaction(flushed=False)` may put that off). Times are ISO UTC strings. Raises StoreUnavailable or StoreCorrupt
    where the file cannot be opened, and any method raises StoreUnavailable once the store is closed or the disk refuses.
    """

    def setting(self, key: str, default: Any = None) -> Any:
        """The value stored under `key`, or `default`."""
        with self._transaction(write=False):
            value = self._value("SELECT value FROM settings WHERE key = ?", [key])
            return default if value is None else json.loads(value)

    def preference(self, name: str, default: Any = None) -> Any:
        """A preference of the user of this store, or `default`."""
        return self.setting(f"{PREFERENCE}{name}", default)

    def set_preference(self, name: str, value: Any) -> None:
        """Store a preference of the user, a plain JSON value."""
        self.set_setting(f"{PREFERENCE}{name}", value)

    def set_setting(self, key: str, value: Any) -> None:
        """Store a plain JSON value under `key`."""
        with self._transaction(write=True):
            self._execute(
                "INSERT INTO settings (key, value) VALUES (?, ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [key, to_json(value)],
            )
