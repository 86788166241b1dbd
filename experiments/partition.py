"""Who holds which examples: a Dirichlet draw over the answer labels (Hsu et al. 2019, arXiv 1909.06335). No model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.tasks.base import Example
from federation.flower.streams import stream_seed


def partition(examples: Sequence[Example], clients: int, alpha: float, most: int, seed: int) -> list[list[Example]]:
    """Examples of each client, at most `most`; every example goes to one client.

    Each label's examples are dealt by shares drawn from Dirichlet(alpha): large alpha gives all clients the same mix,
    small alpha gives each its own. A client that got nothing takes one example of the largest.
    """
    rng = np.random.default_rng(stream_seed(seed, "partition"))
    shards: list[list[Example]] = [[] for _ in range(clients)]
    for label in sorted({e.label for e in examples}):
        members = [e for e in examples if e.label == label]
        order = rng.permutation(len(members))
        cuts = (np.cumsum(rng.dirichlet([alpha] * clients))[:-1] * len(members)).astype(int)
        for shard, indices in zip(shards, np.split(order, cuts), strict=True):
            shard += [members[i] for i in indices]
    for shard in shards:
        if not shard:
            shard.append(max(shards, key=len).pop())
    return [[shard[i] for i in rng.permutation(len(shard))[:most]] for shard in shards]
