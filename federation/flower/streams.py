"""Independent random streams by (seed, what for, round, client). No state: whoever knows the four gets the same stream.

Adding seed, round and client up, as the published code does, gives round 1 of client 2 and round 2 of client 1 one
stream. numpy's SeedSequence hashes them apart (O'Neill 2015; numpy's documentation, "Parallel random number generation").
"""

from __future__ import annotations

from typing import Literal, get_args

from numpy.random import SeedSequence

Purpose = Literal["adapter", "data", "partition", "clients", "examples", "play", "hints", "noise", "training"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)  # the order is part of every stream: append, never insert


def stream_seed(seed: int, purpose: Purpose, *where: int) -> int:
    """A seed in [0, 2**63) for random.Random, numpy or torch; `where` is usually (round, client)."""
    sequence = SeedSequence(entropy=seed, spawn_key=(PURPOSES.index(purpose), *where))
    high, low = sequence.generate_state(2)
    return (int(high) << 32 | int(low)) >> 1
