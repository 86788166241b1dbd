"""What a model has computed of conversations that may go on, so that the next reply computes what is new alone.

Keys and values as in every cache of a decoder (Pope et al., arXiv 2211.05102), kept from one reply to the next. No
threads, no text, no decoding.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from torch import Tensor

from spear_core.models.causal_model import CausalModel

MOST_CELLS = 8_192  # tokens kept in all: a quarter of what replies under way may hold (continuous_batching.py)


@dataclass(frozen=True)
class Prefix:
    """The tokens of one row and, of each layer, their keys and values: (1, heads, tokens, D)."""

    tokens: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]

    def first(self, count: int) -> Prefix:
        return Prefix(self.tokens[:count], tuple((k[:, :, :count], v[:, :, :count]) for k, v in self.layers))


class PrefixCache:
    """The last reply of each conversation, with all that stood before it; the longest unused go first.

    A conversation finds only its own, so that no one can tell from how soon a reply comes what others have said. It is of
    one model, and gone with it: an adapter that is no longer served leaves nothing here.
    """

    def __init__(self, most_cells: int = MOST_CELLS) -> None:
        self._most_cells = most_cells
        self._lock = threading.Lock()
        self._of_model: WeakKeyDictionary[CausalModel, dict[str, Prefix]] = WeakKeyDictionary()

    def put(self, model: CausalModel, conversation: str, prefix: Prefix) -> None:
        with self._lock:
            kept = self._of_model.setdefault(model, {})
            kept.pop(conversation, None)
            kept[conversation] = prefix
            cells = sum(len(p.tokens) for p in kept.values())
            while cells > self._most_cells:
                cells -= len(kept.pop(next(iter(kept))).tokens)

    def find(self, model: CausalModel, conversation: str, prompt: Sequence[int]) -> Prefix | None:
        """What the prompt begins with; None where that is less than half of it. One token at least is left to compute."""
        with self._lock:
            kept = self._of_model.get(model, {})
            prefix = kept.get(conversation)
        if prefix is None:
            return None
        most = min(len(prefix.tokens), len(prompt) - 1)
        same = next((i for i in range(most) if prefix.tokens[i] != prompt[i]), most)
        return prefix.first(same) if 2 * same >= len(prompt) else None

    def drop(self, conversation: str) -> None:
        """Keep nothing of it, under any model."""
        with self._lock:
            for kept in self._of_model.values():
                kept.pop(conversation, None)

    def clear(self) -> None:
        with self._lock:
            self._of_model.clear()
