"""Export and import of feedback as rows. File formats belong to the caller."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from feedback_store.conversations import Conversations
from feedback_store.database import clean, new_id, now_utc, to_json, to_record
from feedback_store.errors import RecordRefused, StoreCorrupt, StoreError, StoreUnavailable
from feedback_store.folding import folded
from feedback_store.records import (
    ELSEWHERE,
    ENDINGS,
    KINDS,
    ROLES,
    VERDICTS,
    Message,
    NewTrace,
    Side,
    Source,
    Trace,
    require,
)
from feedback_store.sampling import content_key
from feedback_store.traces import Traces

PAGE = 500  # rows read at a time, so that chat does not wait for a long export
STATUSES = ("pending", "claimed", "trained", "skipped", "rolled_back", "withdrawn")
# the status here of a trace that was trained or claimed elsewhere
HERE = {"trained": "pending", "claimed": "pending"}
VERDICT_OF = {"confirmed": "better"}
REPLIED_BY = {"edited": "edit"}  # source -> kind of the message with the right answer; of others a revision
# Tables of a conversation, in the order in which rows refer to each other, and the columns that are not exported
RECORDS: dict[str, tuple[str, frozenset[str]]] = {
    "message": ("messages", frozenset({"question_key", "objected", "folded"})),
    "vote": ("votes", frozenset()),
    "hint": ("hints", frozenset({"id"})),
    "event": ("events", frozenset({"id"})),
    "trace": ("traces", frozenset({"seq", "prompt_key", "may_train", "round_id"})),
    "choice": ("conversation_choices", frozenset()),  # the branch that is shown, and sampling settings
}
_TYPES: dict[str, Any] = {"TEXT": str, "INTEGER": int, "REAL": (int, float)}
CONVERSATION_COLUMNS = ("id", "title", "learn", "created_at_utc", "user")


def _is_message(said: Any) -> bool:
    """Whether a value is a message of a prompt: a role and a content."""
    if not isinstance(said, dict) or set(said) != {"role", "content"}:
        return False
    return said["role"] in ROLES and isinstance(said["content"], str)


def _check(column: str, value: Any, declared: Mapping[str, Any]) -> None:
    """Raise StoreError for a value that the column never holds, because it could stop all learning later.

    `declared` is the column's row of SQLite's table_info.
    """
    if column == "prompt":
        said = json.loads(value)
        is_right = isinstance(said, list) and bool(said) and all(map(_is_message, said)) and said[-1]["role"] == "user"
    elif column in ("data", "sampling"):
        is_right = isinstance(json.loads(value), dict)
    elif column.endswith("_at_utc"):
        is_right = isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    else:
        is_right = isinstance(value, _TYPES[declared["type"]]) or (value is None and not declared["notnull"])
    if not is_right:
        raise StoreError(f"{column} cannot be {value!r}")


@dataclass(frozen=True)
class Wanted:
    """What to export. Times are ISO UTC, `since` included and `until` excluded; user None: of all users.

    Raises StoreError for an unknown status.
    """

    since: str = ""
    until: str = "9999"
    statuses: tuple[str, ...] = STATUSES[:-1]  # all but withdrawn ones
    user: str | None = None

    def __post_init__(self) -> None:
        for status in self.statuses:
            require("status", status, STATUSES)


@dataclass(frozen=True)
class Example:
    """An example made elsewhere: a right answer, a rejected one, or both."""

    system: str
    turns: tuple[tuple[str, str], ...]  # (question, answer), before the question
    question: str
    right: str | None
    wrong: str | None
    source: Source
    confidence: float
    created_at_utc: str = field(default_factory=now_utc)
    is_withdrawn: bool = False
    is_dated: bool = False  # when it was given elsewhere; the same words at another time are another example

    @property
    def prompt(self) -> list[dict[str, str]]:
        """The chat messages up to the question."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        turns = [
            {"role": role, "content": text}
            for turn in self.turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
        return [*system, *turns, {"role": "user", "content": self.question}]


class Transfer(Conversations, Traces):
    """The part of the store for exports and imports."""

    def exported_traces(self, wanted: Wanted) -> Iterator[Trace]:
        """The wanted traces, oldest first, without those of deleted conversations."""
        last = 0
        while True:
            with self._transaction(write=False):
                rows = self._rows(
                    "SELECT * FROM traces WHERE seq > ?1 AND created_at_utc >= ?2 AND created_at_utc < ?3 "
                    "AND status IN (SELECT value FROM json_each(?4)) AND conversation_id IN "
                    "(SELECT id FROM conversations WHERE ?5 IS NULL OR user = ?5) ORDER BY seq LIMIT ?6",
                    [last, wanted.since, wanted.until, to_json(wanted.statuses), wanted.user, PAGE],
                )
            for row in rows:
                last = row["seq"]
                yield to_record(Trace, row)
            if len(rows) < PAGE:
                return

    def exported_records(self, wanted: Wanted) -> Iterator[dict[str, Any]]:
        """All rows of the conversations that began in the period, one dict for each, as `add_records` takes them."""
        for conversation in self._conversations_of(wanted):
            yield {"type": "conversation", **{key: conversation[key] for key in CONVERSATION_COLUMNS}}
            with self._transaction(write=False):
                found = {kind: self._records_of(kind, conversation["id"]) for kind in RECORDS}
            for kind, rows in found.items():
                left_out = RECORDS[kind][1]
                yield from ({"type": kind, **{k: v for k, v in r.items() if k not in left_out}} for r in rows)

    def _conversations_of(self, wanted: Wanted) -> list[dict[str, Any]]:
        with self._transaction(write=False):
            return self._rows(
                "SELECT * FROM conversations WHERE created_at_utc >= ?1 AND created_at_utc < ?2 "
                "AND (?3 IS NULL OR user = ?3) ORDER BY seq",
                [wanted.since, wanted.until, wanted.user],
            )

    def _records_of(self, kind: str, conversation_id: str) -> list[dict[str, Any]]:
        table = RECORDS[kind][0]
        if kind == "message":
            return self._rows("SELECT * FROM messages WHERE conversation_id = ? ORDER BY position", [conversation_id])
        if kind in ("trace", "choice"):
            return self._rows(f"SELECT * FROM {table} WHERE conversation_id = ? ORDER BY rowid", [conversation_id])
        return self._rows(
            f"SELECT t.* FROM {table} t JOIN messages m ON m.id = t.message_id WHERE m.conversation_id = ? "
            "ORDER BY t.rowid",
            [conversation_id],
        )

    def add_records(self, records: Sequence[dict[str, Any]], user: str | None = None) -> int:
        """Import exported conversations, all or none. Returns the number of new ones.

        A conversation that exists is left unchanged. Traces that were trained elsewhere become pending here.

        Args:
            records: as `exported_records` gives them.
            user: whose they become; None: of the users named in them.

        Raises:
            RecordRefused: for the first record that does not fit.
        """
        added: set[str] = set()
        done = 0
        try:
            with self._transaction(write=True):
                for record in records:
                    row = {key: value for key, value in record.items() if key != "type"}
                    if record["type"] == "conversation":
                        if self._value("SELECT 1 FROM conversations WHERE id = ?", [row["id"]]) is None:
                            self._check_values("conversations", row)
                            row = {**row, "folded": folded(row["title"])}
                            self._insert("conversations", row if user is None else {**row, "user": user})
                            added.add(row["id"])
                    elif self._belongs(record["type"], row, added):
                        self._add_record(record["type"], row)
                    done += 1
        except (StoreUnavailable, StoreCorrupt):
            raise
        except StoreError as e:
            raise RecordRefused(done, str(e)) from e
        except KeyError as e:
            raise RecordRefused(done, f"{e} is missing") from e
        except (TypeError, ValueError, OverflowError, RecursionError, sqlite3.Error) as e:
            raise RecordRefused(done, "a value in it is of the wrong kind or size") from e
        return len(added)

    def _belongs(self, kind: str, row: Mapping[str, Any], added: set[str]) -> bool:
        require("type", kind, ("conversation", *RECORDS))
        if "conversation_id" in row:
            return row["conversation_id"] in added
        return self._value("SELECT conversation_id FROM messages WHERE id = ?", [row["message_id"]]) in added

    def _add_record(self, kind: str, row: dict[str, Any]) -> None:
        self._check_values(RECORDS[kind][0], row)
        self._check_references(kind, row)
        # in the form of `to_json`, so that an escape such as \ud800 is decoded and replaced
        row = {**row, **{c: clean(to_json(json.loads(row[c]))) for c in ("prompt", "data", "sampling") if c in row}}
        if kind == "trace":
            NewTrace(**{f.name: row[f.name] for f in fields(NewTrace)})  # raises StoreError for impossible values
            require("status", row["status"], STATUSES)
            learn = self._value("SELECT learn FROM conversations WHERE id = ?", [row["conversation_id"]])
            key = content_key(row["prompt"])
            status = HERE.get(row["status"], row["status"])
            if status == "pending" and not row["completion"].strip():
                status = "skipped"  # of an earlier version; an empty answer teaches nothing
            if row["side"] == "win" and self._is_cut(row["message_id"]):
                status = "withdrawn"  # the end of a reply that was cut off must not be learned
            row = {**row, "status": status, "prompt_key": key, "may_train": learn}
            if self._value("SELECT 1 FROM traces WHERE id = ?", [row["id"]]) is not None:
                row["id"] = new_id()  # one that was trained stays when its conversation is deleted
            if (first := self._value("SELECT revises_id FROM messages WHERE id = ?", [row["subject_id"]])) is not None:
                row["subject_id"] = first  # versions before the 30th of November 2026 also had traces about an edit
        if kind == "message":
            require("role", row["role"], ROLES)
            require("kind", row["kind"], KINDS)
            require("verdict", row["verdict"], (None, *VERDICTS))
            require("ending", row.get("ending"), (None, *ENDINGS))
            parent = self._rows("SELECT role, text FROM messages WHERE id = ?", [row["parent_id"]])
            is_question = bool(parent) and parent[0]["role"] == "user"
            row = {**row, "folded": folded(row["text"])}
            row = {**row, "question_key": content_key(parent[0]["text"]) if is_question else None}
            row["complete"] = 1  # replies that were being written there are not written here
        self._insert(RECORDS[kind][0], row)

    def _is_cut(self, message_id: str | None) -> bool:
        return self._value("SELECT ending FROM messages WHERE id = ?", [message_id]) not in (None, "ended")

    def _check_references(self, kind: str, row: dict[str, Any]) -> None:
        """Check that rows refer only to their own conversation, and messages only to earlier ones. Raises StoreError.

        So no record refers to messages of another user, and no conversation has a cycle.
        """
        referring = {"message": ("parent_id", "revises_id", "corrects_id"), "choice": ("leaf_id",)}
        for column in referring.get(kind, ("message_id", "subject_id")):
            if (named := row.get(column)) is not None and "conversation_id" in row:
                where = self._value("SELECT conversation_id FROM messages WHERE id = ?", [named])
                if where != row["conversation_id"]:
                    raise StoreError(f"{column} {named!r} is not in that conversation")

    def _check_values(self, table: str, row: Mapping[str, Any]) -> None:
        """Check that every value is of its column's kind, and none missing that must be there. Raises StoreError."""
        columns = {found["name"]: found for found in self._rows(f"SELECT * FROM pragma_table_info('{table}')")}
        if unknown := set(row) - set(columns):
            raise StoreError(f"unknown {', '.join(sorted(unknown))} in a record of {table}")
        for column, value in row.items():
            _check(column, value, columns[column])

    def add_examples(self, examples: Sequence[Example], base: str, user: str = "") -> int:
        """Import examples as conversations of `user` with traces for `base`, all or none. Returns how many were new.

        Examples that the store has already are left out, and so are repeated ones, unless both have times that differ.
        The messages are marked as imported (ELSEWHERE).
        """
        added = 0
        with self._transaction(write=True):
            before = {
                (row["side"], row["prompt_key"], row["completion"])
                for row in self._rows("SELECT side, prompt_key, completion FROM traces WHERE base = ?", [base])
            }
            said: set[tuple[str, int, object, str]] = set()
            for example in examples:
                key = content_key(str(clean(to_json(example.prompt))))
                at = example.created_at_utc if example.is_dated else ""
                answers = [("win", key, clean(example.right)), ("lose", key, clean(example.wrong))]
                new = {(*answer, at) for answer in answers if answer[2] is not None and answer not in before} - said
                if new:
                    said |= new
                    added += 1
                    self._add_example(example, base, user)
        return added

    def _add_example(self, example: Example, base: str, user: str) -> None:
        title = " ".join(example.question.split())[:48]
        conversation = self.create_conversation(title, user=user)
        last = self._add_turns(conversation.id, example.system, example.turns)
        asked = self.add_message(conversation.id, "user", example.question, parent_id=last)
        first = right = self.add_message(
            conversation.id,
            "assistant",
            example.right or "" if example.wrong is None else example.wrong,
            parent_id=asked.id,
            adapter_version=ELSEWHERE,
        )
        if example.wrong is not None and example.right is not None:
            right = self.add_message(
                conversation.id,
                "assistant",
                example.right,
                kind=REPLIED_BY.get(example.source, "revision"),
                parent_id=asked.id,
                revises_id=first.id,
                adapter_version=ELSEWHERE,
            )
            if right.kind == "revision":
                self.set_verdict(right.id, VERDICT_OF.get(example.source))
        self.set_vote(first.id, 1 if example.wrong is None else -1)
        said: list[tuple[Side, Message, str | None]] = [("win", right, example.right), ("lose", first, example.wrong)]
        for side, message, text in said:
            if text is not None:
                new = NewTrace(
                    side,
                    conversation.id,
                    message.id,
                    first.id,
                    example.prompt,
                    text,
                    example.confidence,
                    example.source,
                    base,
                )
                (trace,) = self.add_traces([new])
                self._execute(
                    "UPDATE traces SET created_at_utc = ?, status = ? WHERE id = ?",
                    [example.created_at_utc, "withdrawn" if example.is_withdrawn else "pending", trace.id],
                )

    def _add_turns(self, conversation_id: str, system: str, turns: Sequence[tuple[str, str]]) -> str | None:
        """Add the messages of an imported history. Returns the id of its last answer."""
        if system:
            self.add_message(conversation_id, "system", system)
        last = None
        for question, answer in turns:
            asked = self.add_message(conversation_id, "user", question, parent_id=last)
            last = self.add_message(
                conversation_id, "assistant", answer, parent_id=asked.id, adapter_version=ELSEWHERE
            ).id
        return last
