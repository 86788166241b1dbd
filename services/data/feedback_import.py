"""Files of feedback, read and stored: JSON lines, a JSON array or Parquet. trl_rows.py interprets the rows."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from feedback_store import Store
from feedback_store.errors import RecordRefused
from feedback_store.transfer import Example
from services.chat.sampling import read_sampling
from services.data.feedback_files import check_format
from services.data.trl_rows import Row, preference, unpaired
from spear_core.errors import SpearError

MAX_LINE_CHARACTERS = 4_000_000
MAX_PARQUET_BYTES = 1_000_000_000  # once it is unpacked
READERS = {"preference": preference, "kto": unpaired}


class ImportRefused(SpearError):
    """A file that cannot be read; nothing was imported."""


@dataclass(frozen=True)
class Skipped:
    """A row that was left out, by its place in the file, and why."""

    place: str  # "line 3"
    reason: str


@dataclass(frozen=True)
class Imported:
    added: int  # examples, or conversations of `events`, that were new
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class _Unreadable:
    reason: str


Found = tuple[str, Row | _Unreadable]


def import_file(
    store: Store, format_: str, content: bytes, base: str, user: str | None = None, *, skip_bad: bool = False
) -> Imported:
    """Store what a file says, all or nothing; with `skip_bad` without the rows that cannot be read.

    Of examples, what is here already is left out; of events, conversations that are here already. `user` None: examples
    belong to nobody in particular, events to whose they were. Raises SpearError for an unknown format, ImportRefused,
    with the number of the line, for a row that cannot be read.
    """
    check_format(format_)
    return _store(store, format_, list(_rows(content)), base, user, skip_bad)


def import_lines(store: Store, format_: str, lines: Iterable[str], base: str, user: str | None = None) -> int:
    """The same for JSON lines. Returns how many were new."""
    check_format(format_)
    return _store(store, format_, list(_json_lines(lines)), base, user, False).added


def _store(store: Store, format_: str, found: list[Found], base: str, user: str | None, skip_bad: bool) -> Imported:
    if format_ == "events":
        if skip_bad:
            raise ImportRefused("skip_bad is for preference and kto; events are imported whole or not at all")
        return _store_records(store, found, user)
    examples: list[Example] = []
    skipped: list[Skipped] = []
    for place, row in found:
        try:
            if isinstance(row, _Unreadable):
                raise ImportRefused(f"{place} is not a JSON object ({row.reason}); nothing was imported")
            examples += READERS[format_](row)
        except SpearError as e:
            reason = row.reason if isinstance(row, _Unreadable) else str(e).rstrip(".")
            if not skip_bad:
                if isinstance(e, ImportRefused):
                    raise
                sentence = f"{place} is not of the format {format_}: {reason}; nothing was imported"
                raise ImportRefused(sentence) from e
            skipped.append(Skipped(place, reason))
    return Imported(store.add_examples(examples, base, user or ""), tuple(skipped))


def _store_records(store: Store, found: list[Found], user: str | None) -> Imported:
    records = []
    for place, row in found:
        if isinstance(row, _Unreadable):
            raise ImportRefused(f"{place} is not a JSON object ({row.reason}); nothing was imported")
        _check_sampling(place, row)
        records.append(row)
    try:
        return Imported(store.add_records(records, user))
    except RecordRefused as e:
        raise ImportRefused(f"{found[e.index][0]}: {e.reason}; nothing was imported") from e


def _check_sampling(place: str, row: Row) -> None:
    """How replies are drawn is the chat service's to judge: what it cannot read would end the conversation for good."""
    if row.get("type") != "choice" or "sampling" not in row:
        return
    try:
        said = json.loads(row["sampling"])
        if not isinstance(said, dict):
            raise SpearError("sampling must be a JSON object in a text")
        read_sampling(said)
    except (SpearError, TypeError, ValueError, RecursionError) as e:
        reason = str(e).rstrip(".") if isinstance(e, SpearError) else "sampling must be a JSON object in a text"
        raise ImportRefused(f"{place}: {reason}; nothing was imported") from e


# -- files -------------------------------------------------------------------------------------------------------------


def _rows(content: bytes) -> Iterator[Found]:
    if content.startswith(b"PAR1"):
        return _parquet_rows(content)
    try:
        text = content.decode("utf-8-sig")  # Windows editors write a byte order mark
    except UnicodeDecodeError as e:
        raise ImportRefused("the file is not UTF-8; nothing was imported") from e
    return _array_items(text) if text.lstrip().startswith("[") else _json_lines(text.split("\n"))


def _json_lines(lines: Iterable[str]) -> Iterator[Found]:
    for number, text in enumerate(lines, 1):
        if text.strip():
            yield f"line {number}", _object(text)


def _object(text: str) -> Row | _Unreadable:
    if len(text) > MAX_LINE_CHARACTERS:
        return _Unreadable("too long")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return _Unreadable("not valid JSON")
    return value if isinstance(value, dict) else _Unreadable(_kind(value))


def _kind(value: Any) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _array_items(text: str) -> Iterator[Found]:
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as e:
        lines = list(_json_lines(text.split("\n")))
        if any(isinstance(row, dict) for _, row in lines):  # lines after all, and the first one is no object
            yield from lines
            return
        where = f" at line {e.lineno}" if isinstance(e, json.JSONDecodeError) else ""
        first = "line 1 is not a JSON object, and the file"
        raise ImportRefused(f"{first} is not a JSON array either (not valid JSON{where}); nothing was imported") from e
    for number, item in enumerate(items, 1):
        yield f"item {number}", item if isinstance(item, dict) else _Unreadable(_kind(item))


def _parquet_rows(content: bytes) -> Iterator[Found]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as e:
        raise ImportRefused(
            "Parquet files need pyarrow (pip install pyarrow); nothing was imported. JSON lines need nothing"
        ) from e
    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
        unpacked = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        if unpacked > MAX_PARQUET_BYTES:
            raise ImportRefused(f"the file holds {unpacked:,} bytes; {MAX_PARQUET_BYTES:,} are allowed")
        characters = 0
        # One row at a time: a column that says the same long text in every row takes the room of one in the file
        for number, batch in enumerate(file.iter_batches(batch_size=1), 1):
            (row,) = batch.to_pylist()
            length = len(json.dumps(row, default=str, ensure_ascii=False))
            characters += length
            if characters > MAX_PARQUET_BYTES:
                raise ImportRefused(f"the file holds more than {MAX_PARQUET_BYTES:,} characters; nothing was imported")
            yield f"row {number}", row if length <= MAX_LINE_CHARACTERS else _Unreadable("too long")
    except (pyarrow.ArrowException, OSError, ValueError) as e:
        raise ImportRefused("the file is a damaged Parquet file; nothing was imported") from e
