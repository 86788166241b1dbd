"""Keys and values of conversations, kept from one reply to the next, so that the next prompt computes only its new part.

They are the usual cache of a decoder (Pope et al., arXiv 2211.05102). No threads, no text, no decoding.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from torch import Tensor

from spear_core.models.causal_model import CausalModel

MOST_CELLS = 8_192  # tokens kept in all: a quarter of those that replies in progress may hold (continuous_batching.py)


@dataclass(frozen=True)
class Prefix:
    """The tokens of one row with the keys and values of each layer: (1, heads, tokens, D)."""

    tokens: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]

    def first(self, count: int) -> Prefix:
        """The prefix cut to its first `count` tokens."""
        return Prefix(self.tokens[:count], tuple((k[:, :, :count], v[:, :, :count]) for k, v in self.layers))


class PrefixCache:
    """The prefix of each conversation up to its last reply. Thread-safe; the least recently used are dropped first.

    A conversation finds only its own prefix, so that response times reveal nothing about others. Prefixes belong to one
    model and are dropped with it: an adapter that no longer serves leaves none.
    """

    def __init__(self, most_cells: int = MOST_CELLS) -> None:
        self._most_cells = most_cells
        self._lock = threading.Lock()
        self._of_model: WeakKeyDictionary[CausalModel, dict[str, Prefix]] = WeakKeyDictionary()

    def put(self, model: CausalModel, conversation: str, prefix: Prefix) -> None:
        """Keep a prefix in place of the conversation's earlier one."""
        with self._lock:
            kept = self._of_model.setdefault(model, {})
            kept.pop(conversation, None)
            kept[conversation] = prefix
            cells = sum(len(p.tokens) for p in kept.values())
            while cells > self._most_cells:
                cells -= len(kept.pop(next(iter(kept))).tokens)

    def find(self, model: CausalModel, conversation: str, prompt: Sequence[int]) -> Prefix | None:
        """The kept beginning of a prompt; None where it is less than half of it. At least one token is left to compute."""
        with self._lock:
            kept = self._of_model.get(model, {})
            prefix = kept.get(conversation)
        if prefix is None:
            return None
        most = min(len(prefix.tokens), len(prompt) - 1)
        same = next((i for i in range(most) if prefix.tokens[i] != prompt[i]), most)
        return prefix.first(same) if 2 * same >= len(prompt) else None

    def drop(self, conversation: str) -> None:
        """Drop the prefixes of a conversation for all models."""
        with self._lock:
            for kept in self._of_model.values():
                kept.pop(conversation, None)

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._of_model.clear()
