"""Rows that are decoded together, token by token, and leave and join at any step. No threads, no text, no storage.

Padding is on the left. Only models with a plain cache of keys and values can do this: sliding windows and recurrent
layers keep less than what a row that joins would need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.generation.logits_process import TopPLogitsWarper

from spear_core.inference.prefix_cache import Prefix


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen and when a reply ends. Temperature 0 is greedy."""

    new_tokens: int
    end_ids: frozenset[int]
    pad_id: int
    temperature: float = 0.0
    top_p: float = 0.95

    def choose(self, logits: Tensor) -> Tensor:
        """The next token of each row: (B, V) -> (B,)."""
        if self.temperature <= 0:
            return logits.argmax(-1)
        scores = logits.float() / self.temperature
        if self.top_p < 1:
            scores = TopPLogitsWarper(self.top_p)(None, scores)  # the ids are not looked at
        return torch.multinomial(scores.softmax(-1), 1).squeeze(-1)


@dataclass
class Rows:
    """B rows over one cache. `seen` (B, T) marks what of the cache is a row's own."""

    cache: DynamicCache
    seen: Tensor

    @classmethod
    def begin(
        cls, model: Any, prompts: Sequence[Sequence[int]], pad_id: int, known: Sequence[Prefix | None] = ()
    ) -> tuple[Rows, Tensor] | None:
        """Compute the prompts, but not what is `known` of them: the rows, and the logits (B, V) after them.

        None where the cache is not a plain one.
        """
        device = next(model.parameters()).device
        cache = DynamicCache(config=model.config)
        if any(type(layer) is not DynamicLayer for layer in cache.layers):
            return None
        prefixes = known or [None] * len(prompts)
        done = [len(prefix.tokens) if prefix else 0 for prefix in prefixes]
        new = [prompt[count:] for prompt, count in zip(prompts, done, strict=True)]
        ids = torch.tensor(_padded(new, pad_id), device=device)
        seen = torch.tensor(_padded([[1] * len(n) for n in new], 0), device=device)
        before = max(done)
        if before:
            _fill(cache, prefixes, before)
            seen = torch.cat([torch.tensor(_padded([[1] * count for count in done], 0), device=device), seen], dim=-1)
        rows = cls(cache, seen)
        logits, given_back = rows._compute(model, ids, (seen.cumsum(-1) - 1).clamp(min=0)[:, before:])
        if given_back is not cache or not cache.layers or any(type(x) is not DynamicLayer for x in cache.layers):
            return None
        if before and len(prompts) > 1:  # a row alone has none
            rows._close_gaps()
        return rows, logits

    def advance(self, model: Any, tokens: Tensor) -> Tensor:
        """Put one token (B,) after each row; the logits (B, V) that follow."""
        positions = self.seen.sum(-1, keepdim=True)
        self.seen = torch.cat([self.seen, self.seen.new_ones(len(self.seen), 1)], dim=-1)
        return self._compute(model, tokens.unsqueeze(-1), positions)[0]

    def row(self, place: int, tokens: Sequence[int]) -> Prefix:
        """What has been computed of one row, whose `tokens` these are; what was not put in yet is left out."""
        width = int(self.seen[place].sum())  # padding is on the left alone
        layers = tuple(
            (layer.keys[place : place + 1, :, -width:].clone(), layer.values[place : place + 1, :, -width:].clone())
            for layer in self._layers()
        )
        return Prefix(tuple(tokens[:width]), layers)

    def keep(self, places: Sequence[int]) -> None:
        """Only these rows stay, in this order; one may stay more than once."""
        kept = torch.tensor(places, device=self.seen.device)
        self.seen = self.seen[kept]
        unused = int(self.seen.any(0).int().argmax())  # columns on the left that only rows now gone had
        self.cache.batch_select_indices(kept)
        self._shift(-unused)

    def join(self, others: Rows) -> None:
        """Take other rows of the same model in, after one's own."""
        width = max(self.seen.shape[1], others.seen.shape[1])
        for rows in (self, others):
            rows._shift(width - rows.seen.shape[1])
        for mine, theirs in zip(self._layers(), others._layers(), strict=True):
            mine.keys = torch.cat([mine.keys, theirs.keys])  # (B, heads, T, D)
            mine.values = torch.cat([mine.values, theirs.values])
        self.seen = torch.cat([self.seen, others.seen])

    def _compute(self, model: Any, ids: Tensor, positions: Tensor) -> tuple[Tensor, Any]:
        """Put ids (B, n) at positions (B, n), of which `seen` knows already: the last logits (B, V), the model's cache."""
        out = model(
            input_ids=ids,
            attention_mask=self.seen,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1], out.past_key_values

    def _close_gaps(self) -> None:
        """Between what was known of a row and what is new: padding belongs on the left alone."""
        own = self.seen.bool()
        width = int(own.sum(-1).max())
        for layer in self._layers():
            layer.keys = torch.cat([_widened(keys[:, mine], width) for keys, mine in zip(layer.keys, own, strict=True)])
            layer.values = torch.cat([_widened(v[:, mine], width) for v, mine in zip(layer.values, own, strict=True)])
        self.seen = self.seen.sort(dim=-1, stable=True).values[:, -width:]

    def _shift(self, columns: int) -> None:
        """Add so many empty columns on the left, or take as many away where negative."""
        if columns:
            self.seen = F.pad(self.seen, (columns, 0))
            for layer in self._layers():
                layer.keys = F.pad(layer.keys, (0, 0, columns, 0))
                layer.values = F.pad(layer.values, (0, 0, columns, 0))

    def _layers(self) -> list[Any]:
        """The layers of a plain cache (`begin` lets no other through), each with `keys` and `values`."""
        return list(self.cache.layers)


def _padded(rows: Sequence[Sequence[int]], filling: int) -> list[list[int]]:
    width = max(map(len, rows))
    return [[filling] * (width - len(row)) + [*row] for row in rows]


def _widened(states: Tensor, width: int) -> Tensor:
    """(heads, T, D) -> (1, heads, width, D), with padding on the left."""
    return F.pad(states, (0, 0, width - states.shape[-2], 0)).unsqueeze(0)


def _fill(cache: DynamicCache, prefixes: Sequence[Prefix | None], width: int) -> None:
    """Put in what is known of each row, padded to `width`; nothing but padding where nothing is known."""
    nothing = next(prefix for prefix in prefixes if prefix).first(0)
    for place, layers in enumerate(zip(*[(prefix or nothing).layers for prefix in prefixes], strict=True)):
        keys, values = (torch.cat([_widened(states[0], width) for states in own]) for own in zip(*layers, strict=True))
        cache.update(keys, values, place)
