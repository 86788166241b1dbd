"""Proofs of corrections: a question with the answers before and after, erased together with what they quote."""

from __future__ import annotations

from collections.abc import Sequence

from feedback_store.database import Records


class Proofs(Records):
    """The part of the store that erases proofs."""

    def _erase_proofs(self, traces: str, params: Sequence[object]) -> None:
        """Erase what rounds showed as proof (a question, two answers) where it is about the traces that `traces` selects."""
        self._execute(
            f"UPDATE rounds SET proof = 'null' WHERE proof != 'null' AND id IN (SELECT round_id FROM traces WHERE {traces})",
            params,
        )
        self._execute(
            "UPDATE rounds SET proof = 'null' WHERE json_extract(proof, '$.prompt') IN "
            f"(SELECT json_extract(prompt, '$[#-1].content') FROM traces WHERE {traces})",
            params,
        )
        # a round's check quotes questions from chats; whose they were is not known there
        of_chats = "json_extract(value, '$.kind') IN ('neighbour', 'recent')"
        self._execute(
            "UPDATE rounds SET figures = json_set(figures, '$.gate.changed', json((SELECT json_group_array(json(value)) "
            f"FROM json_each(figures, '$.gate.changed') WHERE NOT {of_chats}))) "
            "WHERE json_array_length(figures, '$.gate.changed') > 0 "
            f"AND EXISTS (SELECT 1 FROM json_each(figures, '$.gate.changed') WHERE {of_chats})"
        )
