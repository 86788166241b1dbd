"""Neighbour questions, stored with the trace that they were made for and deleted with it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from feedback_store.database import Records, clean, to_json
from feedback_store.records import Trace


class KeptNeighbours(Records):
    """The part of the store for neighbour questions and other wordings of corrections."""

    def keep_neighbours(self, trace_id: str, made: Sequence[dict[str, Any]]) -> None:
        """Store them in place of earlier ones. Raises UnknownRecord for an unknown trace."""
        with self._transaction(write=True):
            self._record(Trace, "SELECT * FROM traces WHERE id = ?", [trace_id])
            self._execute("DELETE FROM neighbours WHERE trace_id = ?", [trace_id])
            self._insert("neighbours", {"trace_id": trace_id, "made": str(clean(to_json(list(made))))})

    def kept_neighbours(self, trace_ids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
        """Trace id -> what was stored for it, possibly an empty list; traces without a row are left out."""
        with self._transaction(write=False):
            rows = self._rows(
                "SELECT trace_id, made FROM neighbours WHERE trace_id IN (SELECT value FROM json_each(?))",
                [to_json(list(trace_ids))],
            )
            return {row["trace_id"]: json.loads(row["made"]) for row in rows}
