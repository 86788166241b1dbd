"""Seeded sampling from many rows without reading them all. No SQL.

Every row carries a key, a hash of what it says, and an index holds the rows in the order of their keys: a shuffling
that is done once, when a row is written. A seed names a place in that order; from there on, and round its end, the rows
that qualify are taken until there are enough. What comes out depends on what the qualifying rows say, on their order
of writing and on the seed, and never on row ids, random ids, dates or the gaps that forgotten rows left: after a
forgetting the choice is the one that would have been made without the forgotten.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from typing import TypeVar

R = TypeVar("R")

LAST_KEY = 2**63 - 1
WINDOW = 256  # up to as many rows all are drawn from; of more, a window of so many


def content_key(text: str) -> int:
    """64 bits of the SHA-256 of a text, as SQLite keeps integers. Stored and indexed: it must never change.

    Equal keys are taken for equal texts: among a million texts two different ones share a key once in 10^7 stores.
    """
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big", signed=True)


def first_key(rng_seed: int) -> int:
    """Where in the order of keys a seed begins to take rows."""
    return content_key(f"seed {rng_seed}")


def shuffled(rows: Iterable[R], limit: int, rng_seed: int) -> list[R]:
    """A seeded choice of at most `limit` of `rows`, which come in their order of writing."""
    chosen = list(rows)
    random.Random(rng_seed).shuffle(chosen)
    return chosen[: max(limit, 0)]
