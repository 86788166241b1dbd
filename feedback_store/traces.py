"""Training traces: added, withdrawn, counted, replayed. Which round takes them is in rounds.py."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from feedback_store.connection import Connection, new_id, now_utc, to_json
from feedback_store.records import NewTrace, Trace

# Traces that may train: their conversation still exists and the person lets it teach
MAY_TRAIN = "conversation_id IN (SELECT id FROM conversations WHERE learn = 1)"


class Traces(Connection):
    """The part of the store between feedback and training."""

    def add_traces(self, new: Sequence[NewTrace]) -> list[Trace]:
        """Store them as pending, all or none. Raises UnknownRecord where a conversation or message is missing."""
        with self._transaction(write=True):
            return [self._add(trace) for trace in new]

    def withdraw_traces(self, subject_id: str) -> tuple[int, int]:
        """Take back the feedback about a reply: (traces withdrawn, traces that had already trained and stay so).

        Claimed traces go too: their round sees it in `still_claimed`, and `promote` refuses what trained on them.
        Skipped and rolled-back ones also go, so that no later request trains them again.
        """
        with self._transaction(write=True):
            withdrawn = self._execute(
                "UPDATE traces SET status = 'withdrawn' "
                "WHERE subject_id = ? AND status IN ('pending', 'claimed', 'skipped', 'rolled_back')",
                [subject_id],
            )
            trained = self._value(
                "SELECT count(*) FROM traces WHERE subject_id = ? AND status = 'trained'", [subject_id]
            )
            return withdrawn, trained

    def replace_traces(self, subject_id: str, new: Sequence[NewTrace]) -> list[Trace]:
        """Withdraw what was said about a reply and store the new word, in one transaction. Raises UnknownRecord."""
        with self._transaction(write=True):
            self.withdraw_traces(subject_id)
            return self.add_traces(new)

    def traces(
        self,
        *,
        base: str | None = None,
        status: str | None = None,
        side: str | None = None,
        subject_id: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[Trace]:
        """Those that match everything given, oldest first unless told otherwise, at most `limit`."""
        wanted = {"base": base, "status": status, "side": side, "subject_id": subject_id}
        given = {column: value for column, value in wanted.items() if value is not None}
        where = " AND ".join(f"{column} = ?" for column in given) or "1"
        order = "DESC" if newest_first else "ASC"
        with self._transaction(write=False):
            return self._records(
                Trace,
                f"SELECT * FROM traces WHERE {where} ORDER BY seq {order} LIMIT ?",
                [*given.values(), -1 if limit is None else limit],
            )

    def count_pending(self, base: str) -> tuple[int, int]:
        """(wins, loses) that a round would claim now: those of conversations that may not teach do not count."""
        with self._transaction(write=False):
            rows = self._rows(
                f"SELECT side, count(*) AS n FROM traces WHERE base = ? AND status = 'pending' AND {MAY_TRAIN} "
                "GROUP BY side",
                [base],
            )
            counts = {row["side"]: row["n"] for row in rows}
            return counts.get("win", 0), counts.get("lose", 0)

    def still_claimed(self, round_id: int) -> list[Trace]:
        """The traces that this running round may still train on, oldest first."""
        with self._transaction(write=False):
            return self._records(
                Trace, "SELECT * FROM traces WHERE round_id = ? AND status = 'claimed' ORDER BY seq", [round_id]
            )

    def replay_wins(self, base: str, limit: int, exclude_ids: Collection[str], rng_seed: int) -> list[Trace]:
        """A seeded choice of at most `limit` trained wins with confidence 1.0 to train on again.

        Only the latest word on a prompt counts: a win with a newer win, trained, claimed or pending, on the same prompt
        is left out. So are wins of conversations that were deleted or may not teach.
        """
        with self._transaction(write=False):
            ids = [
                row["id"]
                for row in self._rows(
                    "SELECT id, max(seq) FILTER (WHERE status IN ('trained', 'claimed', 'pending')) "
                    "OVER (PARTITION BY prompt) AS latest, seq, status, confidence, "
                    f"{MAY_TRAIN} AS may_train FROM traces WHERE base = ? AND side = 'win' ORDER BY seq",
                    [base],
                )
                if row["seq"] == row["latest"]
                and row["status"] == "trained"
                and row["confidence"] == 1.0
                and row["may_train"]
                and row["id"] not in exclude_ids
            ]
            random.Random(rng_seed).shuffle(ids)
            return [self._trace(trace_id) for trace_id in ids[: max(limit, 0)]]

    def _add(self, trace: NewTrace) -> Trace:
        trace_id = new_id()
        row = {
            "id": trace_id,
            "side": trace.side,
            "conversation_id": trace.conversation_id,
            "message_id": trace.message_id,
            "subject_id": trace.subject_id,
            "prompt": to_json(trace.prompt),
            "completion": trace.completion,
            "confidence": trace.confidence,
            "source": trace.source,
            "status": "pending",
            "base": trace.base,
            "created_at_utc": now_utc(),
        }
        self._insert("traces", row)
        return self._trace(trace_id)

    def _trace(self, trace_id: str) -> Trace:
        return self._record(Trace, "SELECT * FROM traces WHERE id = ?", [trace_id])
