"""Adapters of each base model: which exist, which one is active, undoing and restoring. The caller owns the files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from feedback_store.database import now_utc, to_json
from feedback_store.errors import StoreError, TracesWithdrawn
from feedback_store.figures import ProofRecord, RoundFigures
from feedback_store.peer_questions import PeerQuestions
from feedback_store.records import Adapter, NewAdapter
from feedback_store.rounds import Rounds


class Adapters(Rounds, PeerQuestions):
    """The part of the store that serving and rollback need. Version 0 is the bare base model."""

    def promote(
        self,
        round_id: int,
        adapter: NewAdapter,
        *,
        figures: RoundFigures,
        verdict: str,
        proof: ProofRecord | None,
        replayed: int,
        trained_ids: Collection[str] | None = None,
    ) -> Adapter:
        """Promote a round: store its adapter, mark its traces as trained and make the adapter active, in one transaction.

        Args:
            round_id: a running round.
            adapter: what it made.
            figures: its measurements.
            verdict: the gate's verdict in words.
            proof: a question with its answers before and after.
            replayed: how many older wins were trained again.
            trained_ids: the traces that become trained; the others of the round become skipped. None: all are trained.

        Raises:
            TracesWithdrawn: one of `trained_ids` was withdrawn meanwhile; nothing is stored then.
            UnknownRecord: no such round or parent.
            StoreError: for a round that has ended, another base, a number used before or a parent that was rolled back.
        """
        with self._transaction(write=True):
            current = self._require_running(round_id)
            if current.base != adapter.base:
                raise StoreError(f"round {round_id} is of base {current.base}, the adapter of {adapter.base}")
            if trained_ids is not None:
                claimed = {trace.id for trace in self.still_claimed(round_id)}
                gone = set(trained_ids) - claimed
                if gone:
                    raise TracesWithdrawn(
                        f"{len(gone)} of the traces that round {round_id} trained on were taken back meanwhile"
                    )
                for trace_id in claimed - set(trained_ids):
                    self._execute("UPDATE traces SET status = 'skipped' WHERE id = ?", [trace_id])
            self._insert_adapter(adapter, round_id)
            self.finish_round(
                round_id,
                "promoted",
                adapter_version=adapter.version,
                figures=figures,
                verdict=verdict,
                proof=proof,
                replayed=replayed,
            )
            self._activate(adapter.base, adapter.version)  # written last, when everything it depends on is there
            return self.adapter(adapter.base, adapter.version)

    def add_adapter(self, adapter: NewAdapter, peer_questions: Mapping[str, Sequence[str]] | None = None) -> Adapter:
        """Store an adapter that no round made, such as a merge, and make it active. Raises as `promote`.

        `peer_questions`: of a merge, by the peer's key, what the peers were taught, where all of them sent it.
        """
        with self._transaction(write=True):
            self._insert_adapter(adapter, None)
            self._keep_peer_questions(adapter.base, adapter.version, peer_questions or {})
            self._activate(adapter.base, adapter.version)
            return self.adapter(adapter.base, adapter.version)

    def adapter(self, base: str, version: int) -> Adapter:
        """One adapter. Raises UnknownRecord, also for version 0, which has no row."""
        with self._transaction(write=False):
            return self._record(Adapter, "SELECT * FROM adapters WHERE base = ? AND version = ?", [base, version])

    def adapters(self, base: str, limit: int | None = None) -> list[Adapter]:
        """All adapters of a base model, or the `limit` newest, newest first."""
        with self._transaction(write=False):
            return self._records(
                Adapter,
                "SELECT * FROM adapters WHERE base = ? ORDER BY version DESC LIMIT ?",
                [base, -1 if limit is None else limit],
            )

    def active_version(self, base: str) -> int:
        """The active version; 0 where the base model answers without an adapter."""
        with self._transaction(write=False):
            return self._value("SELECT version FROM active_adapters WHERE base = ?", [base]) or 0

    def next_version(self, base: str) -> int:
        """One above every number ever stored for `base`, rolled-back and pruned ones included."""
        with self._transaction(write=False):
            return int(self._value("SELECT coalesce(max(version), 0) + 1 FROM adapters WHERE base = ?", [base]))

    def newest_undone(self, base: str) -> int:
        """The newest version above the active one that was undone and not pruned; 0 where there is none."""
        with self._transaction(write=False):
            found = self._value(
                "SELECT max(version) FROM adapters WHERE base = ? AND status = 'rolled_back' AND version > ?",
                [base, self.active_version(base)],
            )
            return int(found or 0)

    def set_active(self, base: str, version: int) -> None:
        """Make any stored version active, or 0. Raises UnknownRecord, and StoreError for a pruned one.

        A rolled-back version is restored with its ancestors, and the traces of their rounds count as trained again.
        """
        with self._transaction(write=True):
            if version and self.adapter(base, version).status == "pruned":
                raise StoreError(f"adapter v{version} was pruned: its files are gone")
            for adapter in self._lineage(base, version):
                self._execute(
                    "UPDATE traces SET status = 'trained' WHERE round_id = ? AND status = 'rolled_back'",
                    [adapter.round_id],
                )
                self._execute(
                    "UPDATE adapters SET status = 'kept' WHERE base = ? AND version = ? AND status = 'rolled_back'",
                    [base, adapter.version],
                )
            self._activate(base, version)

    def roll_back(self, base: str) -> int:
        """Undo the active adapter: its nearest ancestor that was not pruned becomes active.

        The undone adapters and the traces of their rounds become rolled_back. Returns the new active version. Raises
        StoreError when no adapter is active.
        """
        with self._transaction(write=True):
            active = self.active_version(base)
            if not active:
                raise StoreError("there is nothing to undo: the base model answers without an adapter")
            target = 0
            for adapter in self._lineage(base, active):
                if adapter.version != active and adapter.status != "pruned":
                    target = adapter.version
                    break
                self._execute(
                    "UPDATE traces SET status = 'rolled_back' WHERE round_id = ? AND status = 'trained'",
                    [adapter.round_id],
                )
            self._execute("UPDATE adapters SET status = 'rolled_back' WHERE base = ? AND version = ?", [base, active])
            self._activate(base, target)
            return target

    def restore(self, base: str, version: int) -> None:
        """Make a version that was undone active again, with its ancestors.

        Versions in use that are not among its ancestors are undone instead. Raises UnknownRecord, and StoreError for a
        version that was not undone.
        """
        with self._transaction(write=True):
            if self.adapter(base, version).status != "rolled_back":
                raise StoreError(f"adapter v{version} was not undone")
            kept = {adapter.version for adapter in self._lineage(base, version)}
            for adapter in self._lineage(base, self.active_version(base)):
                if adapter.version not in kept:
                    self._execute(
                        "UPDATE traces SET status = 'rolled_back' WHERE round_id = ? AND status = 'trained'",
                        [adapter.round_id],
                    )
                    self._execute(
                        "UPDATE adapters SET status = 'rolled_back' WHERE base = ? AND version = ? AND status = 'kept'",
                        [base, adapter.version],
                    )
            self.set_active(base, version)

    def lineage(self, base: str, version: int) -> list[Adapter]:
        """An adapter and its ancestors, newest first, down to the one trained on the base model. Raises UnknownRecord."""
        with self._transaction(write=False):
            return self._lineage(base, version)

    def forget(self, base: str, subject_ids: Collection[str], active: int, undone: Collection[int]) -> None:
        """Erase all feedback about some replies, in one transaction.

        Votes, hints, verdicts and traces about the replies are deleted, trained or not, of every base model. So are the
        questions that peers sent with merges among the undone adapters, which become pruned: nobody can restore them,
        also where the program ends before the caller has deleted their files. Their other traces become rolled_back and
        can be trained again.

        Args:
            base: fingerprint of the base model.
            subject_ids: ids of the first replies.
            active: the version that becomes active.
            undone: versions that were trained on the feedback, or on top of such a version.
        """
        with self._transaction(write=True):
            for subject in subject_ids:
                self._erase_proofs("subject_id = ?", [subject])
                self._execute("DELETE FROM traces WHERE subject_id = ?", [subject])
                about = [
                    subject,
                    *(m["id"] for m in self._rows("SELECT id FROM messages WHERE revises_id = ?", [subject])),
                    *(m["id"] for m in self._rows("SELECT id FROM messages WHERE corrects_id = ?", [subject])),
                ]
                for message_id in about:
                    self._execute("DELETE FROM votes WHERE message_id = ?", [message_id])
                    self._execute("DELETE FROM hints WHERE message_id = ?", [message_id])
                    self._execute("UPDATE events SET data = '{}' WHERE message_id = ?", [message_id])
                    self._execute("UPDATE messages SET verdict = NULL, hint = NULL WHERE id = ?", [message_id])
            for version in undone:
                self._forget_peer_questions(base, version)
                self._execute(
                    "UPDATE traces SET status = 'rolled_back' WHERE round_id = ? AND status = 'trained'",
                    [self.adapter(base, version).round_id],
                )
                self._execute(
                    "UPDATE adapters SET status = 'pruned', pinned = 0 WHERE base = ? AND version = ?", [base, version]
                )
            self._activate(base, active)

    def forget_words_of_rounds(self, bases: Collection[str], subject_ids: Collection[str]) -> None:
        """Erase the quotations of all rounds of these base models since the first that trained on these replies.

        Their figures are kept. Call it before `forget`, which deletes the traces that tell these rounds.
        """
        with self._transaction(write=True):
            for base in bases:
                self._execute(
                    "UPDATE rounds SET proof = 'null', figures = json_remove(figures, '$.gate.changed') WHERE base = ? AND "
                    "id >= (SELECT min(round_id) FROM traces WHERE base = ? AND subject_id IN "
                    "(SELECT value FROM json_each(?)))",
                    [base, base, to_json(list(subject_ids))],
                )

    def set_pinned(self, base: str, version: int, pinned: bool) -> None:
        """Pin an adapter, so that it is not pruned, or unpin it. Raises UnknownRecord."""
        with self._transaction(write=True):
            self.adapter(base, version)
            self._execute("UPDATE adapters SET pinned = ? WHERE base = ? AND version = ?", [int(pinned), base, version])

    def mark_pruned(self, base: str, version: int) -> None:
        """Mark an adapter as pruned, before its files are deleted. Its number is never used again.

        Raises UnknownRecord, and StoreError for the active or a pinned one.
        """
        with self._transaction(write=True):
            if self.adapter(base, version).pinned or version == self.active_version(base):
                raise StoreError(f"adapter v{version} is pinned or active and stays")
            self._execute("UPDATE adapters SET status = 'pruned' WHERE base = ? AND version = ?", [base, version])

    def _insert_adapter(self, adapter: NewAdapter, round_id: int | None) -> None:
        if adapter.version < self.next_version(adapter.base):
            raise StoreError(f"adapter number {adapter.version} was used before; next is next_version()")
        # the parent was undone while this one was trained on top of it
        if adapter.parent_version and self.adapter(adapter.base, adapter.parent_version).status == "rolled_back":
            raise StoreError(f"adapter v{adapter.version} stands on v{adapter.parent_version}, which was rolled back")
        row = {
            "base": adapter.base,
            "version": adapter.version,
            "parent_version": adapter.parent_version,
            "folder": adapter.folder,
            "sha256": adapter.sha256,
            "round_id": round_id,
            "status": "kept",
            "figures": to_json(adapter.figures.to_dict()),
            "created_at_utc": now_utc(),
        }
        self._insert("adapters", row)

    def _lineage(self, base: str, version: int) -> list[Adapter]:
        """The adapter of that version and its ancestors, newest first."""
        line = self._records(
            Adapter,
            "WITH RECURSIVE line(version) AS (SELECT ? UNION SELECT a.parent_version FROM line "
            "JOIN adapters a ON a.base = ? AND a.version = line.version) "
            "SELECT a.* FROM line JOIN adapters a ON a.base = ? AND a.version = line.version ORDER BY a.version DESC",
            [version, base, base],  # a parent is older than its children, so its number is lower
        )
        if missing := line[-1].parent_version if line else version:
            self.adapter(base, missing)  # raises
        return line

    def _activate(self, base: str, version: int) -> None:
        self._execute("DELETE FROM active_adapters WHERE base = ?", [base])
        if version:
            self._insert("active_adapters", {"base": base, "version": version})
