"""Questions that peers were taught, stored with the merged version that answers them and deleted with it by a forgetting."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from feedback_store.database import Records, clean, to_json


class PeerQuestions(Records):
    """The part of the store for what peers sent besides their adapters. `add_adapter` stores it."""

    def peer_questions(self, base: str, version: int) -> dict[str, tuple[str, ...]]:
        """Peer's key -> its questions, oldest first, of one merged version; empty where they are not known."""
        with self._transaction(write=False):
            rows = self._rows(
                "SELECT peer, questions FROM peer_questions WHERE base = ? AND version = ? ORDER BY peer",
                [base, version],
            )
            return {row["peer"]: tuple(json.loads(row["questions"])) for row in rows}

    def _keep_peer_questions(self, base: str, version: int, questions: Mapping[str, Sequence[str]]) -> None:
        for peer, asked in questions.items():
            text = str(clean(to_json(list(asked))))
            self._insert("peer_questions", {"base": base, "version": version, "peer": peer, "questions": text})

    def _forget_peer_questions(self, base: str, version: int) -> None:
        self._execute("DELETE FROM peer_questions WHERE base = ? AND version = ?", [base, version])
