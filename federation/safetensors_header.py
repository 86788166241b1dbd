"""A strict reader of safetensors headers: bounded in size, and every byte of the file must be accounted for.

Layout: eight bytes of header length (little-endian), a JSON header of dtype, shape and place of each tensor, then the
data (https://github.com/huggingface/safetensors#format). A parser of our own, because the checks must speak of exactly
what is read later: duplicate names or overlapping places, on which two parsers might differ, are refused here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

import torch

from federation.canonical_json import strict_json
from federation.errors import UpdateRefused, shown
from federation.factors import DTYPES

LENGTH_BYTES = 8
ALIGNMENT_BYTES = 8
MAX_HEADER_BYTES = 1 << 20  # an entry takes about 150 bytes: some 7,000 tensors
MAX_DIMENSION = 1 << 31
METADATA = "__metadata__"


@dataclass(frozen=True)
class Entry:
    """One tensor of the file: `begin` and `end` count bytes from the start of the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """All tensors by name, and the metadata (texts by name)."""

    entries: dict[str, Entry]
    metadata: dict[str, str]


def read_header(file: BinaryIO, size: int, max_header_bytes: int = MAX_HEADER_BYTES) -> Header:
    """Read the header of an open file of `size` bytes; the data is not touched.

    Raises:
        UpdateRefused: unless the header is small, well formed, names only float tensors, and places them one after
            the other, without gap or overlap, from its own end to the end of the file.
    """
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if size < LENGTH_BYTES + 2 or length < 2:
        raise UpdateRefused("the update is not a safetensors file: it is too short")
    if length > max_header_bytes:
        raise UpdateRefused(
            f"the update is not a safetensors file, or its header is longer than {max_header_bytes} bytes"
        )
    start = LENGTH_BYTES + length
    if start > size:
        raise UpdateRefused("the update is truncated: it ends inside its header")
    try:
        raw = strict_json(file.read(length).decode("utf-8"))
    except ValueError as e:
        raise UpdateRefused("the update is not a safetensors file: its header is not JSON") from e
    if not isinstance(raw, dict):
        raise UpdateRefused("the update is not a safetensors file: its header is not a JSON object")
    if start % ALIGNMENT_BYTES:
        raise UpdateRefused("the update's data does not begin at a multiple of 8 bytes")
    metadata = raw.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise UpdateRefused("the update's metadata is not a table of texts")
    entries = {name: _entry(name, value, start) for name, value in raw.items()}
    _check_places(entries, start, size)
    return Header(entries, metadata)


def _entry(name: str, value: Any, start: int) -> Entry:
    what = f"tensor {shown(name)}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise UpdateRefused(f"{what} is not described by dtype, shape and data_offsets")
    if not isinstance(value["dtype"], str) or value["dtype"] not in DTYPES:
        raise UpdateRefused(f"{what} is of type {shown(str(value['dtype']))}; only {', '.join(DTYPES)} are taken")
    dtype, shape, place = DTYPES[value["dtype"]], value["shape"], value["data_offsets"]
    if not isinstance(shape, list) or len(shape) != 2 or not all(_whole(n) and 1 <= n <= MAX_DIMENSION for n in shape):
        raise UpdateRefused(f"{what} is not a matrix")
    if not isinstance(place, list) or len(place) != 2 or not all(_whole(n) and n >= 0 for n in place):
        raise UpdateRefused(f"{what} has no place in the file")
    begin, end = place
    if end - begin != prod(shape) * dtype.itemsize:
        raise UpdateRefused(f"{what} does not fill its place in the file")
    return Entry(dtype, tuple(shape), start + begin, start + end)


def _whole(value: Any) -> bool:
    return type(value) is int  # bool is an int too


def _check_places(entries: dict[str, Entry], start: int, size: int) -> None:
    if not entries:
        raise UpdateRefused("the update holds no tensors")
    at = start
    for name, entry in sorted(entries.items(), key=lambda item: item[1].begin):
        if entry.begin != at:
            kind = "overlaps another one" if entry.begin < at else "leaves a gap before it"
            raise UpdateRefused(f"tensor {shown(name)} {kind} in the file")
        at = entry.end
    if at > size:
        raise UpdateRefused("the update is truncated: its tensors reach past the end of the file")
    if at < size:
        raise UpdateRefused("the update has bytes behind its last tensor")
