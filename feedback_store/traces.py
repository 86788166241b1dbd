"""Training traces: added, withdrawn, counted, replayed. Which round takes them is in rounds.py."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from feedback_store.database import clean, new_id, now_utc, to_json, to_record
from feedback_store.proofs import Proofs
from feedback_store.records import NewTrace, Side, Trace, TraceStatus
from feedback_store.sampling import WINDOW, content_key, first_key, shuffled

# SQLite has no statistics here and would choose the index of all traces of a status
WAITING = "traces INDEXED BY traces_waiting WHERE base = ? AND status = 'pending' AND may_train = 1"
MOST_LOOKED_AT = 64  # of the newest traces or refused rounds of all users, for what is asked about one
# A win `t` that the person still stands by: the reply is liked, or the one it replaces is not
STANDS = (
    "EXISTS (SELECT 1 FROM votes v JOIN messages m ON m.id = t.message_id WHERE v.message_id = t.subject_id "
    "AND v.value = iif(m.id = t.subject_id, 1, -1) AND m.verdict IS NOT 'still_wrong')"
)
# A trained one that may be trained again: the latest word on its prompt (a verdict of the judge does not replace what a
# person said)
REPLAYED = (
    "t.side = 'win' AND t.status = 'trained' AND t.confidence = 1.0 AND t.may_train = 1 "
    "AND NOT EXISTS (SELECT 1 FROM traces INDEXED BY traces_wins WHERE base = t.base "
    "AND prompt_key = t.prompt_key AND (source != 'judged', seq) > (t.source != 'judged', t.seq) "
    "AND side = 'win' AND status IN ('trained', 'claimed', 'pending')) "
    f"AND {STANDS}"
)


class Traces(Proofs):
    """The part of the store for traces, between feedback and training."""

    def add_traces(self, new: Sequence[NewTrace]) -> list[Trace]:
        """Store traces as pending, all or none. Raises UnknownRecord where a conversation or message is missing."""
        with self._transaction(write=True):
            return [self._add(trace) for trace in new]

    def withdraw_traces(self, subject_id: str) -> tuple[int, int]:
        """Withdraw the traces about a reply, except trained ones.

        Claimed traces are withdrawn too: their round sees it in `still_claimed`, and `promote` refuses an adapter that
        was trained on them. So are skipped ones, which answer from memory, and rolled-back ones, which a restored version brings back.

        Returns:
            How many were withdrawn, and how many stay because they were trained.
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
        """Withdraw the traces about a reply and store new ones, in one transaction. Raises UnknownRecord."""
        with self._transaction(write=True):
            self.withdraw_traces(subject_id)
            return self.add_traces(new)

    def traces(
        self,
        *,
        base: str | None = None,
        status: TraceStatus | None = None,
        side: Side | None = None,
        subject_id: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[Trace]:
        """The traces that match all given conditions, oldest first by default, at most `limit`."""
        return self._traces(
            base=base, status=status, side=side, subject_id=subject_id, limit=limit, newest_first=newest_first
        )

    def _traces(
        self,
        also: str = "1",
        params: Sequence[object] = (),
        *,
        limit: int | None = None,
        newest_first: bool = False,
        **wanted: str | None,
    ) -> list[Trace]:
        """As `traces`, with a further condition and its parameters."""
        given = {column: value for column, value in wanted.items() if value is not None}
        by_subject = "subject_id" in given
        # "+" keeps SQLite from looking through all the traces of a status for those of one reply
        marks = [f"{'+' * (by_subject and column != 'subject_id')}{column} = ?" for column in given]
        where = " AND ".join([*marks, also])
        with self._transaction(write=False):
            return self._records(
                Trace,
                f"SELECT * FROM traces WHERE {where} ORDER BY seq {'DESC' if newest_first else 'ASC'} LIMIT ?",
                [*given.values(), *params, -1 if limit is None else limit],
            )

    def shareable_wins(self, base: str) -> list[Trace]:
        """All trained wins, oldest first, but those of conversations that were deleted or may no longer train."""
        return self._traces("may_train = 1", base=base, status="trained", side="win")

    def newest_subjects(self, base: str, newest: int) -> set[tuple[str, str]]:
        """(conversation, the reply it is about) of the `newest` traces of this base model."""
        with self._transaction(write=False):
            rows = self._rows(
                "SELECT DISTINCT conversation_id, subject_id FROM (SELECT conversation_id, subject_id FROM traces "
                "WHERE base = ? ORDER BY seq DESC LIMIT ?) WHERE conversation_id IS NOT NULL AND subject_id IS NOT NULL",
                [base, newest],
            )
            return {(row["conversation_id"], row["subject_id"]) for row in rows}

    def count_pending(self, base: str) -> tuple[int, int]:
        """(wins, loses) that a round would claim now, without those of conversations that may not train."""
        with self._transaction(write=False):
            rows = self._rows(f"SELECT side, count(*) AS n FROM {WAITING} GROUP BY side", [base])
            counts = {row["side"]: row["n"] for row in rows}
            return counts.get("win", 0), counts.get("lose", 0)

    def count_rejected_questions(self, base: str) -> int:
        """The number of different prompts with a rejected answer that a round would claim now, however many were rejected."""
        with self._transaction(write=False):
            return int(self._value(f"SELECT count(DISTINCT prompt_key) FROM {WAITING} AND side = 'lose'", [base]))

    def queued_wins(self, base: str, limit: int) -> list[Trace]:
        """The wins of the running round, then the pending ones, each oldest first."""
        with self._transaction(write=False):
            claimed = self._records(
                Trace,
                "SELECT * FROM traces WHERE base = ? AND status = 'claimed' AND +side = 'win' ORDER BY seq LIMIT ?",
                [base, limit],
            )
            return claimed + self._records(
                Trace, f"SELECT * FROM {WAITING} AND side = 'win' ORDER BY seq LIMIT ?", [base, limit - len(claimed)]
            )

    def wins_from_memory(self, base: str, user: str, limit: int) -> list[Trace]:
        """A user's confirmed answers that no adapter has learned, the newest `limit` of each kind: those that wait, and those
        that did not pass the gate and have no newer word on their prompt. The MOST_LOOKED_AT newest of all users, and of
        refused rounds, are looked at.
        """
        kinds = (
            f"SELECT * FROM {WAITING} AND side = 'win'",
            "SELECT * FROM traces WHERE base = ? AND status = 'claimed' AND +side = 'win'",
            (
                "SELECT t.* FROM (SELECT id FROM rounds WHERE base = ? AND status = 'discarded' ORDER BY id DESC "
                f"LIMIT {MOST_LOOKED_AT}) r JOIN traces t INDEXED BY traces_round ON t.round_id = r.id "
                "WHERE t.status = 'skipped' AND +t.side = 'win' "
                "AND NOT EXISTS (SELECT 1 FROM traces n WHERE n.base = t.base AND n.prompt_key = t.prompt_key "
                "AND n.side = 'win' AND n.seq > t.seq AND n.status IN ('pending', 'claimed', 'trained', 'skipped'))"
            ),
        )
        with self._transaction(write=False):
            return [
                trace
                for newest in kinds
                for trace in self._records(
                    Trace,
                    f"SELECT w.* FROM ({newest} ORDER BY seq DESC LIMIT {MOST_LOOKED_AT}) w "
                    "JOIN conversations c ON c.id = w.conversation_id WHERE c.user = ? AND w.source != 'judged' "
                    "AND (w.source != 'liked' OR w.status != 'skipped') ORDER BY w.seq DESC LIMIT ?",
                    [base, user, limit],
                )
            ]

    def refused_corrections(self, conversation_id: str) -> dict[str, str]:
        """Id of a corrected reply -> verdict of the round, where its right answer did not pass the gate."""
        with self._transaction(write=False):
            rows = self._rows(
                "SELECT t.subject_id, r.verdict FROM traces t JOIN rounds r ON r.id = t.round_id "
                "WHERE t.conversation_id = ? AND +t.side = 'win' AND +t.status = 'skipped' "
                "AND r.status = 'discarded' AND t.subject_id IS NOT NULL ORDER BY t.seq",
                [conversation_id],
            )
            return {row["subject_id"]: row["verdict"] for row in rows}

    def still_claimed(self, round_id: int) -> list[Trace]:
        """The traces of a running round that were not withdrawn, oldest first."""
        with self._transaction(write=False):
            return self._records(
                Trace, "SELECT * FROM traces WHERE round_id = ? AND status = 'claimed' ORDER BY seq", [round_id]
            )

    def latest_feedback(self, base: str, limit: int) -> list[Trace]:
        """All traces about the `limit` replies with the newest feedback, oldest first.

        The feedback on a reply is its newest win, else its newest losing trace; a withdrawn one only where there is no
        other. Replies of deleted conversations are left out.
        """
        return self._latest_feedback(base, limit)

    def latest_feedback_of_others(self, base: str, user: str, limit: int) -> list[Trace]:
        """As `latest_feedback`, of the conversations of all users but `user`."""
        with self._transaction(write=False):
            # Without logins there are no others, and the query would read all feedback to find none
            if not self._value("SELECT 1 FROM conversations WHERE user < ?1 OR user > ?1 LIMIT 1", [user]):
                return []
            of_others = " AND (SELECT user FROM conversations WHERE id = conversation_id) != ?"
            return self._latest_feedback(base, limit, of_others, [user])

    def _latest_feedback(self, base: str, limit: int, also: str = "", params: Sequence[object] = ()) -> list[Trace]:
        with self._transaction(write=False):
            return self._records(
                Trace,
                f"SELECT * FROM traces WHERE +base = ?{also} AND subject_id IN ("
                f"SELECT subject_id FROM traces t INDEXED BY traces_base WHERE base = ? AND subject_id IS NOT NULL{also} "
                "AND NOT EXISTS (SELECT 1 FROM traces o WHERE o.subject_id = t.subject_id AND +o.base = t.base "
                "AND (o.status != 'withdrawn', o.side = 'win', o.seq) > (t.status != 'withdrawn', t.side = 'win', t.seq)) "
                "ORDER BY t.seq DESC LIMIT ?) ORDER BY seq",
                [base, *params, base, *params, limit],
            )

    def replay_wins(self, base: str, limit: int, exclude_ids: Collection[str], rng_seed: int) -> list[Trace]:
        """A seeded choice of trained wins with confidence 1, to be trained again.

        Left out are wins with a newer win on the same prompt (one of the judge does not replace one of a person), wins
        whose vote or verdict was withdrawn, and those of conversations that were deleted or may not train.

        Args:
            base: fingerprint of the base model.
            limit: of the traces. Of more than that and WINDOW, those whose prompts' keys follow the seed's (sampling.py).
            exclude_ids: traces to leave out.
            rng_seed: of the choice.
        """
        size = max(limit, WINDOW)
        with self._transaction(write=False):
            found: list[dict[str, Any]] = []
            for side_of_seed in (">=", "<"):
                found += self._rows(
                    f"SELECT * FROM traces t INDEXED BY traces_wins WHERE base = ? AND prompt_key {side_of_seed} ? "
                    f"AND {REPLAYED} AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY prompt_key LIMIT ?",
                    [base, first_key(rng_seed), to_json(list(exclude_ids)), size - len(found)],
                )
            found.sort(key=lambda row: row["seq"])
            return [to_record(Trace, row) for row in shuffled(found, limit, rng_seed)]

    def is_replayed(self, trace_id: str) -> bool:
        """Whether `replay_wins` may choose this trace."""
        with self._transaction(write=False):
            return self._value(f"SELECT 1 FROM traces t WHERE t.id = ? AND {REPLAYED}", [trace_id]) is not None

    def stands(self, trace_id: str) -> bool:
        """Whether the person still stands by this right answer, learned or not."""
        with self._transaction(write=False):
            return self._value(f"SELECT 1 FROM traces t WHERE t.id = ? AND {STANDS}", [trace_id]) is not None

    def is_settled(self, trace: Trace) -> bool:
        """Whether a win of a person on this trace's prompt is trained, claimed or pending."""
        with self._transaction(write=False):
            found = self._value(
                "SELECT 1 FROM traces INDEXED BY traces_wins WHERE base = ? AND side = 'win' AND source != 'judged' "
                "AND prompt_key = (SELECT prompt_key FROM traces WHERE id = ?) "
                "AND status IN ('pending', 'claimed', 'trained')",
                [trace.base, trace.id],
            )
            return found is not None

    def _add(self, trace: NewTrace) -> Trace:
        trace_id, prompt = new_id(), str(clean(to_json(trace.prompt)))
        learn = self._value("SELECT learn FROM conversations WHERE id = ?", [trace.conversation_id])
        row = {
            "id": trace_id,
            "side": trace.side,
            "conversation_id": trace.conversation_id,
            "message_id": trace.message_id,
            "subject_id": trace.subject_id,
            "prompt": prompt,
            "prompt_key": content_key(prompt),
            "may_train": learn or 0,
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
