"""Learning rounds: a round claims traces, and marks or releases them at its end. Adapters are in adapters.py."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from feedback_store.database import now_utc, to_json
from feedback_store.errors import StoreError
from feedback_store.figures import ProofRecord, RoundFigures
from feedback_store.records import ROUND_ENDS, Round, Trace, require
from feedback_store.traces import WAITING, Traces


class Rounds(Traces):
    """The part of the store for learning rounds."""

    def claim_round(
        self, base: str, parent_version: int, only: Collection[str] | None = None, most: int | None = None
    ) -> tuple[Round, list[Trace]] | None:
        """Start a round: claim pending traces of `base` that may train, and return them oldest first.

        No trace is claimed twice, whichever thread or process asks.

        Args:
            base: fingerprint of the base model.
            parent_version: the adapter that the round trains on top of.
            only: ids of pending or rolled-back traces to claim instead, for training again after a forgetting. What was
                learned before is, whatever became of its conversation.
            most: about how many traces to take. Corrections come first, then thumbs-up, then rejected replies; all
                traces on one prompt stay together.

        Returns:
            The round and its traces; None where there is no win among them, because losing traces alone start no round.
        """
        with self._transaction(write=True):
            if only is None:
                found = self._rows(f"SELECT seq, side, prompt_key, source FROM {WAITING}", [base])
                if most is not None and len(found) > most:
                    found = _portion(found, most)
            else:
                found = self._rows(
                    "SELECT seq, side FROM traces WHERE id IN (SELECT value FROM json_each(?)) AND +base = ? "
                    "AND (+status = 'rolled_back' OR +status = 'pending' AND may_train = 1)",
                    [to_json(list(only)), base],
                )
            wins = sum(row["side"] == "win" for row in found)
            if not wins:
                return None
            round_id = self._insert(
                "rounds",
                {
                    "base": base,
                    "status": "running",
                    "started_at_utc": now_utc(),
                    "parent_version": parent_version,
                    "wins": wins,
                    "loses": len(found) - wins,
                },
            )
            self._execute(
                "UPDATE traces SET status = 'claimed', round_id = ? WHERE seq IN (SELECT value FROM json_each(?))",
                [round_id, to_json([row["seq"] for row in found])],
            )
            return self.round(round_id), self.still_claimed(round_id)

    def finish_round(
        self,
        round_id: int,
        status: str,
        *,
        adapter_version: int | None = None,
        figures: RoundFigures | None = None,
        verdict: str = "",
        proof: ProofRecord | None = None,
        replayed: int = 0,
    ) -> Round:
        """End a running round. Its claimed traces become trained (promoted) or skipped (discarded), or pending again.

        Those of conversations that may not train, which only a round trained again after a forgetting claims, become
        rolled_back instead of pending: the next try claims them too.

        `promoted` makes no adapter active: `promote` does that. Raises UnknownRecord, and StoreError for another
        status or a round that has ended.
        """
        require("round status", status, ROUND_ENDS)
        with self._transaction(write=True):
            self._require_running(round_id)
            if status == "promoted":
                self._execute(
                    "UPDATE traces SET status = 'trained' WHERE round_id = ? AND status = 'claimed'", [round_id]
                )
            elif status == "discarded":
                self._execute(
                    "UPDATE traces SET status = 'skipped' WHERE round_id = ? AND status = 'claimed'", [round_id]
                )
            else:
                self._execute(
                    "UPDATE traces SET status = iif(may_train, 'pending', 'rolled_back'), round_id = NULL "
                    "WHERE round_id = ? AND status = 'claimed'",
                    [round_id],
                )
            self._execute(
                "UPDATE rounds SET status = ?, finished_at_utc = ?, adapter_version = ?, replayed = ?, figures = ?, "
                "verdict = ?, proof = ? WHERE id = ?",
                [
                    status,
                    now_utc(),
                    adapter_version,
                    replayed,
                    to_json(figures.to_dict() if figures else {}),
                    verdict,
                    to_json(proof.to_dict() if proof else None),
                    round_id,
                ],
            )
            return self.round(round_id)

    def release_interrupted(self, base: str) -> int:
        """At start: end every running round of `base` as interrupted. Returns their number.

        Their claimed traces are pending again; withdrawn ones stay withdrawn.
        """
        with self._transaction(write=True):
            running = self._rows("SELECT id FROM rounds WHERE base = ? AND status = 'running'", [base])
            for row in running:
                self.finish_round(row["id"], "interrupted", verdict="The program ended before the round did.")
            return len(running)

    def taught_in(self, round_id: int, besides: Collection[str] = ()) -> list[tuple[str, str]]:
        """(trace id, side) of the traces that a round trained, oldest first, without those about the replies `besides`."""
        with self._transaction(write=False):
            rows = self._rows(
                "SELECT id, side FROM traces WHERE round_id = ? AND status = 'trained' AND (subject_id IS NULL "
                "OR subject_id NOT IN (SELECT value FROM json_each(?))) ORDER BY seq",
                [round_id, to_json(list(besides))],
            )
            return [(row["id"], row["side"]) for row in rows]

    def round(self, round_id: int) -> Round:
        """One round. Raises UnknownRecord."""
        with self._transaction(write=False):
            return self._record(Round, "SELECT * FROM rounds WHERE id = ?", [round_id])

    def rounds(self, base: str, limit: int = 50) -> list[Round]:
        """The `limit` newest rounds, newest first."""
        with self._transaction(write=False):
            return self._records(Round, "SELECT * FROM rounds WHERE base = ? ORDER BY id DESC LIMIT ?", [base, limit])

    def last_round(self, base: str) -> Round | None:
        """The newest round, running or ended; None where there is none."""
        return next(iter(self.rounds(base, limit=1)), None)

    def _require_running(self, round_id: int) -> Round:
        current = self.round(round_id)
        if current.status != "running":
            raise StoreError(f"round {round_id} has ended already: {current.status}")
        return current


def _portion(found: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Rows of whole prompts, until there are `most`; corrections first.

    A prompt is not divided: its newest trace counts, and an older one must not be trained after it.
    """
    of_prompt: dict[int, list[dict[str, Any]]] = {}
    for row in sorted(found, key=lambda row: row["seq"]):
        of_prompt.setdefault(row["prompt_key"], []).append(row)

    def urgency(rows: list[dict[str, Any]]) -> int:
        sources = {row["source"] for row in rows if row["side"] == "win"}
        return 2 if not sources else int(sources == {"liked"})

    taken: list[dict[str, Any]] = []
    for rows in sorted(of_prompt.values(), key=urgency):  # sorted is stable: older ones stay first
        if len(taken) >= most:
            break
        taken += rows
    return taken
