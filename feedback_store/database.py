"""The base of all parts of the store: transactions, statements, and rows as records."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlite_utils import Database

from feedback_store.connection import Connection
from feedback_store.errors import UnknownRecord
from feedback_store.figures import read_figures, read_proof

R = TypeVar("R")

# How columns are read that hold other than plain values, whichever record has them
_READ_COLUMN: dict[str, Callable[[Any], Any]] = {
    "prompt": json.loads,
    "data": json.loads,
    "figures": read_figures,
    "proof": read_proof,
    "learn": bool,
    "complete": bool,
    "pinned": bool,
}
_SURROGATES = re.compile("[\ud800-\udfff]")  # UTF-8, and so SQLite, cannot hold them


def now_utc() -> str:
    """ISO time in UTC with microseconds, so that text order is time order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def new_id() -> str:
    """A random id of 32 hexadecimal digits."""
    return uuid.uuid4().hex


def to_json(value: object) -> str:
    """JSON with sorted keys, so that equal prompts are equal strings."""
    # ensure_ascii would escape surrogates, so that `clean` could not replace them
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def clean(value: object) -> object:
    """A parameter that SQLite can hold: lone surrogates become U+FFFD; NUL characters stay."""
    return _SURROGATES.sub("\ufffd", value) if isinstance(value, str) else value


@cache
def _reading(cls: type) -> list[tuple[str, Callable[[Any], Any] | None]]:
    """The columns of a record in the order of its fields, and what turns a column's value into the field's."""
    return [(column.name, _READ_COLUMN.get(column.name)) for column in fields(cls)]


def to_record(cls: type[R], row: Mapping[str, Any]) -> R:
    """Build the record `cls` from the columns that carry its fields' names."""
    return cls(*[row[name] if read is None else read(row[name]) for name, read in _reading(cls)])  # type: ignore[arg-type]


class Records:
    """Reads and writes over a `Connection`, which several of these may share. Raises what Connection raises."""

    def __init__(self, path: Path | str, *, busy_timeout_seconds: float = 10.0) -> None:
        self._connection = Connection(path, busy_timeout_seconds=busy_timeout_seconds)

    @property
    def path(self) -> Path:
        return self._connection.path

    @property
    def _db(self) -> Database:
        """The connection that writes."""
        return self._connection.db

    def close(self) -> None:
        """Close the file once running reads have ended. May be called twice; any later call raises StoreUnavailable."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _transaction(self, *, write: bool, flushed: bool = True) -> AbstractContextManager[None]:
        """A transaction; inside another one of this thread it is part of that one. See Connection.transaction."""
        return self._connection.transaction(write=write, flushed=flushed)

    @contextmanager
    def transaction(self, *, flushed: bool = True) -> Iterator[None]:
        """One transaction for all that is written inside. Keep it short: other writers wait.

        With `flushed` False it does not wait for the disk: it survives a kill, but not a power cut before the next flush.
        """
        with self._transaction(write=True, flushed=flushed):
            yield

    @contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """One read transaction, so that everything read inside is consistent. Nothing may be written inside."""
        with self._transaction(write=False):
            yield

    def _execute(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run one statement; returns the number of rows it changed."""
        return self._connection.current.execute(sql, [clean(p) for p in params]).rowcount

    def _insert(self, table: str, row: Mapping[str, object]) -> int:
        """Insert one row; returns its integer key where it has one."""
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        cursor = self._connection.current.execute(
            f"INSERT INTO {table} ({columns}) VALUES ({marks})", [clean(v) for v in row.values()]
        )
        return int(cursor.lastrowid or 0)

    def _rows(self, sql: str, params: Sequence[object] = ()) -> list[dict[str, Any]]:
        # Not Database.query, which opens a savepoint around every SELECT
        # An open cursor after an error would keep the connection's read transaction open
        with closing(self._connection.current.execute(sql, [clean(p) for p in params])) as cursor:
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def _value(self, sql: str, params: Sequence[object] = ()) -> Any:
        """The first column of the first row, or None."""
        row = self._connection.current.execute(sql, [clean(p) for p in params]).fetchone()
        return None if row is None else row[0]

    def _records(self, cls: type[R], sql: str, params: Sequence[object] = ()) -> list[R]:
        return [to_record(cls, row) for row in self._rows(sql, params)]

    def _record(self, cls: type[R], sql: str, params: Sequence[object]) -> R:
        """The first record that `sql` finds. Raises UnknownRecord."""
        found = self._records(cls, sql, params)
        if not found:
            raise UnknownRecord(f"no {cls.__name__.lower()} {' '.join(map(str, params))} in the store")
        return found[0]
