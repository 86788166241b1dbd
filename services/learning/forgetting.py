"""Erasing learned feedback: which adapters are deleted, and which rounds are trained again without it.

The rounds wait in the store, across restarts and changes of the base model; rounds.py trains them before new feedback.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from feedback_store import Adapter
from services.engine import Engine
from services.learning.lineage import Lineage
from services.peers.published_update import withdraw
from services.views import Forgotten

REBUILD = "rebuild_queue"


class Forgetting:
    """Forgets, and remembers which rounds are to be trained again. Both raise RuntimeError without the round lock."""

    def __init__(self, engine: Engine, lineage: Lineage) -> None:
        self._engine = engine
        self._store = engine.store
        self._lineage = lineage

    def forget(self, subjects: Collection[str]) -> Forgotten:
        """Erase all feedback about some replies, and serve the newest version that was trained without it.

        Applies to every base model that was trained on it. Versions that saw it are deleted, those too that were undone
        before: nothing is trained again in their place. Returns the effect on the current base model.

        Args:
            subjects: ids of the first replies.
        """
        self._lineage.lock.require()
        traces = [t for s in subjects for t in self._store.traces(subject_id=s)]
        rounds = {t.round_id for t in traces if t.status in ("trained", "rolled_back")}
        undone: list[Adapter] = []
        aside: list[Adapter] = []  # undone before
        queue: list[dict[str, Any]] = []
        with self._store.transaction():
            bases = sorted({self._engine.base, *(t.base for t in traces)})
            self._store.forget_words_of_rounds(bases, subjects)  # of all, before the first one's traces are gone
            for base in bases:
                line = self._store.lineage(base, self._store.active_version(base))[::-1]  # oldest first
                first = _first_that_saw(line, rounds)
                undone += line[first:]
                queue += [item for a in line[first:] if (item := self._item(a, subjects))]
                serves = line[first - 1].version if first else 0
                besides = self._besides(base, line, rounds)
                aside += besides
                self._store.forget(base, subjects, serves, [a.version for a in (*line[first:], *besides)])
            self._store.set_setting(REBUILD, queue + self._store.setting(REBUILD, []))
            # before the rows are committed: after a kill nothing would delete it
            withdraw(self._engine.data_folder, {adapter.base for adapter in (*undone, *aside)})
        self._lineage.delete_versions([*undone, *aside])  # what a kill leaves, the next start deletes
        self._lineage.serve_active()
        base = self._engine.base
        return Forgotten(
            tuple(sorted(adapter.version for adapter in (*undone, *aside) if adapter.base == base)),
            self._lineage.version,
            sum(item["base"] == base for item in queue),
        )

    def _besides(self, base: str, line: Sequence[Adapter], rounds: Collection[int | None]) -> list[Adapter]:
        """Versions outside the line of the one that serves that were trained in these rounds, or on top of them."""
        own = {a.version for a in line}
        saw: set[int] = set()
        every = self._store.adapters(base)[::-1]  # a parent is older than its children
        for a in every:
            if a.round_id in rounds or a.parent_version in saw:
                saw.add(a.version)
        return [a for a in every if a.version in saw - own and a.status != "pruned"]

    def _item(self, adapter: Adapter, forgotten: Collection[str]) -> dict[str, Any] | None:
        """The rest of a round, to be trained again; None where it has no win left."""
        if adapter.round_id is None:
            return None
        left = self._store.taught_in(adapter.round_id, besides=forgotten)
        if not any(side == "win" for _, side in left):
            return None
        return {
            "base": adapter.base,
            "traces": [trace_id for trace_id, _ in left],
            "anchors_before_utc": self._store.round(adapter.round_id).started_at_utc,
        }

    def waiting(self) -> list[dict[str, Any]]:
        """The rounds of the current base model that are to be trained again, in their original order."""
        base = self._engine.base
        # an item without a base was stored by an earlier version
        return [item for item in self._store.setting(REBUILD, []) if item.get("base", base) == base]

    def rebuilt(self) -> None:
        """Remove the first of the waiting rounds: it has been trained."""
        self._lineage.lock.require()
        with self._store.transaction():
            queue = self._store.setting(REBUILD, [])
            queue.remove(self.waiting()[0])
            self._store.set_setting(REBUILD, queue)


def _first_that_saw(line: Sequence[Adapter], rounds: Collection[int | None]) -> int:
    """Index of the first adapter to delete in a lineage, oldest first; its length where none was made by these rounds.

    Earlier ones are deleted too where the adapter that would serve was pruned.
    """
    first = next((i for i, adapter in enumerate(line) if adapter.round_id in rounds), len(line))
    while first and first < len(line) and line[first - 1].status == "pruned":
        first -= 1
    return first
