"""Questions like a corrected one, about something else, kept with the trace they were made for. They go with it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from feedback_store.database import Records, clean, to_json
from feedback_store.records import Trace


class KeptNeighbours(Records):
    """The part of the store that remembers what the base model made of a correction's question."""

    def keep_neighbours(self, trace_id: str, made: Sequence[dict[str, Any]]) -> None:
        """Remember them, in place of those kept before. They are deleted with the trace. Raises UnknownRecord for no trace."""
        with self._transaction(write=True):
            self._record(Trace, "SELECT * FROM traces WHERE id = ?", [trace_id])
            self._execute("DELETE FROM neighbours WHERE trace_id = ?", [trace_id])
            self._insert("neighbours", {"trace_id": trace_id, "made": str(clean(to_json(list(made))))})

    def kept_neighbours(self, trace_ids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
        """Those of these traces that have any, possibly an empty list."""
        with self._transaction(write=False):
            rows = self._rows(
                "SELECT trace_id, made FROM neighbours WHERE trace_id IN (SELECT value FROM json_each(?))",
                [to_json(list(trace_ids))],
            )
            return {row["trace_id"]: json.loads(row["made"]) for row in rows}
