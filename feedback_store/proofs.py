"""Proofs of corrections: a question with the answers before and after, erased together with what they quote."""

from __future__ import annotations

from collections.abc import Sequence

from feedback_store.database import Records


class Proofs(Records):
    """The part of the store for erasing proofs."""

    def _erase_proofs(self, traces: str, params: Sequence[object]) -> None:
        """Erase the proofs of rounds (a question, two answers) about the traces that the condition `traces` selects."""
        self._execute(
            f"UPDATE rounds SET proof = 'null' WHERE proof != 'null' AND id IN (SELECT round_id FROM traces WHERE {traces})",
            params,
        )
        self._execute(
            "UPDATE rounds SET proof = 'null' WHERE json_extract(proof, '$.prompt') IN "
            f"(SELECT json_extract(prompt, '$[#-1].content') FROM traces WHERE {traces})",
            params,
        )
        # The gate's changed answers quote chats of unknown users, so all such quotations are erased
        of_chats = "json_extract(value, '$.kind') IN ('neighbour', 'recent', 'earlier')"
        self._execute(
            "UPDATE rounds SET figures = json_set(figures, '$.gate.changed', json((SELECT json_group_array(json(value)) "
            f"FROM json_each(figures, '$.gate.changed') WHERE NOT {of_chats}))) "
            "WHERE json_array_length(figures, '$.gate.changed') > 0 "
            f"AND EXISTS (SELECT 1 FROM json_each(figures, '$.gate.changed') WHERE {of_chats})"
        )
