"""The caches of the rows that are decoded: one interface, three implementations. No choosing, no text, no threads.

- `FusedRows`: llama-like models, with the lean forward pass. Each row has its own cache, so joining and leaving are free.
- `PaddedRows`: other models with a plain cache of keys and values, as one padded batch through transformers.
- `SingleRows`: models with windows or recurrent layers, each row by itself through transformers.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from spear_core.errors import one_line
from spear_core.inference.fused_model import FusedModel
from spear_core.inference.prefix_cache import Prefix
from spear_core.models.causal_model import CausalModel

log = logging.getLogger(__name__)
MOST_TOKENS_AT_ONCE = 2048  # of prompts in one forward pass, which limits the memory for activations
MOSTLY_USED = 0.8  # a prefix shares the row's cache where at least this share of it is used; else it is a copy
ROOM_TOKENS = 64  # by which a full cache grows at least
# raised by architectures that take no cache or another kind
REFUSALS = (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError)


class Rows(Protocol):
    """The caches of B rows of one model. `begin` of each implementation also returns the logits (B, V)."""

    def advance(self, tokens: Sequence[int]) -> Tensor:
        """Feed one token to each row. Returns the next logits (B, V)."""

    def keep(self, places: Sequence[int]) -> None:
        """Keep only these rows, in this order. A row may be named more than once."""

    def join(self, others: Self) -> None:
        """Append other rows of the same model."""

    def prefix(self, place: int, tokens: Sequence[int]) -> Prefix | None:
        """Keys and values of one row, with its `tokens`, for a later prompt that begins the same; None where impossible."""


def begin(
    model: CausalModel, prompts: Sequence[Sequence[int]], known: Sequence[Prefix | None], rooms: Sequence[int]
) -> tuple[Rows, Tensor]:
    """Compute prompts. Returns the rows and the logits (B, V) after the prompts. Raises what the model raises.

    Args:
        model: of all rows.
        prompts: token ids.
        known: cached beginnings of the prompts, which are not computed again.
        rooms: how many tokens will follow each prompt at most.
    """
    fused = FusedModel.of(model)
    if fused is not None:
        return FusedRows.begin(fused, prompts, known, rooms)
    padded = PaddedRows.begin(model, prompts, known)
    if padded is not None:
        return padded
    return SingleRows.begin(model, prompts)


# -- the lean forward ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CachePrefix(Prefix):
    """The keys and values of all layers in one tensor, as `FusedModel` has them: (layers, tokens, 2 * kv heads, D)."""

    cache: Tensor

    def first(self, count: int) -> CachePrefix:
        return CachePrefix(self.tokens[:count], (), self.cache[:, :count])


@dataclass
class _Row:
    cache: Tensor  # (layers, room, 2 * kv heads, D)
    used: int


@dataclass
class FusedRows:
    """Rows of a model that `FusedModel` computes."""

    model: FusedModel
    rows: list[_Row]

    @classmethod
    def begin(
        cls,
        model: FusedModel,
        prompts: Sequence[Sequence[int]],
        known: Sequence[Prefix | None],
        rooms: Sequence[int],
    ) -> tuple[FusedRows, Tensor]:
        rows, logits = [], []
        part: list[tuple[Tensor, int, Sequence[int]]] = []
        for prompt, prefix, room in zip(prompts, known, rooms, strict=True):
            row = _Row(model.new_cache(len(prompt) + room), 0)
            if isinstance(prefix, CachePrefix):
                row.used = len(prefix.tokens)
                row.cache[:, : row.used] = prefix.cache
            new = (row.cache, row.used, prompt[row.used :])
            if part and sum(len(tokens) for *_, tokens in (*part, new)) > MOST_TOKENS_AT_ONCE:
                logits.append(model.extend(part))
                part = []
            part.append(new)
            row.used = len(prompt)
            rows.append(row)
        logits.append(model.extend(part))
        return cls(model, rows), logits[0] if len(logits) == 1 else torch.cat(logits)

    def advance(self, tokens: Sequence[int]) -> Tensor:
        for row in self.rows:
            if row.used == row.cache.shape[1]:
                grown = self.model.new_cache(row.used + max(ROOM_TOKENS, row.used // 2))
                grown[:, : row.used] = row.cache
                row.cache = grown
        logits = self.model.extend([(r.cache, r.used, [t]) for r, t in zip(self.rows, tokens, strict=True)])
        for row in self.rows:
            row.used += 1
        return logits

    def keep(self, places: Sequence[int]) -> None:
        kept: list[_Row] = []
        seen: set[int] = set()
        for place in places:
            row = self.rows[place]
            kept.append(_Row(row.cache.clone(), row.used) if place in seen else row)
            seen.add(place)
        self.rows = kept

    def join(self, others: FusedRows) -> None:
        self.rows += others.rows

    def prefix(self, place: int, tokens: Sequence[int]) -> CachePrefix:
        row = self.rows[place]
        cache = row.cache[:, : row.used]
        if cache.shape[1] < MOSTLY_USED * row.cache.shape[1]:  # a copy, because the unused room would be kept too
            cache = cache.clone()
        return CachePrefix(tuple(tokens[: row.used]), (), cache)


# -- a padded batch --------------------------------------------------------------------------------------------


@dataclass
class PaddedRows:
    """Rows over one cache, padded on the left. `seen` (B, T) is the attention mask."""

    model: CausalModel
    cache: DynamicCache
    seen: Tensor

    @classmethod
    def begin(
        cls, model: CausalModel, prompts: Sequence[Sequence[int]], known: Sequence[Prefix | None]
    ) -> tuple[PaddedRows, Tensor] | None:
        """As the function `begin`; None where the model's cache is not a plain one."""
        device = next(model.parameters()).device
        cache = DynamicCache(config=model.config)
        if any(type(layer) is not DynamicLayer for layer in cache.layers):
            return None
        done = [len(prefix.tokens) if prefix else 0 for prefix in known]
        new = [prompt[count:] for prompt, count in zip(prompts, done, strict=True)]
        ids = torch.tensor(_padded(new), device=device)
        seen = torch.tensor(_padded([[1] * len(n) for n in new]), device=device)
        before = max(done)
        if before:
            _fill(cache, known, before)
            seen = torch.cat([torch.tensor(_padded([[1] * count for count in done]), device=device), seen], dim=-1)
        rows = cls(model, cache, seen)
        try:
            logits, given_back = rows._compute(ids, (seen.cumsum(-1) - 1).clamp(min=0)[:, before:])
        except TypeError as e:  # a model that takes no cache or no positions
            log.debug("replies of this model are not decoded as one batch (%s)", one_line(e))
            return None
        if given_back is not cache or not cache.layers or any(type(x) is not DynamicLayer for x in cache.layers):
            return None
        if before and len(prompts) > 1:  # a row alone has none
            rows._close_gaps()
        return rows, logits

    def advance(self, tokens: Sequence[int]) -> Tensor:
        positions = self.seen.sum(-1, keepdim=True)
        self.seen = torch.cat([self.seen, self.seen.new_ones(len(self.seen), 1)], dim=-1)
        return self._compute(torch.tensor(tokens, device=self.seen.device).unsqueeze(-1), positions)[0]

    def prefix(self, place: int, tokens: Sequence[int]) -> Prefix:
        width = int(self.seen[place].sum())  # padding is on the left alone
        layers = tuple(
            (layer.keys[place : place + 1, :, -width:].clone(), layer.values[place : place + 1, :, -width:].clone())
            for layer in self._layers()
        )
        return Prefix(tuple(tokens[:width]), layers)

    def keep(self, places: Sequence[int]) -> None:
        kept = torch.tensor(places, device=self.seen.device)
        self.seen = self.seen[kept]
        unused = int(self.seen.any(0).int().argmax())  # columns on the left that only rows now gone had
        self.cache.batch_select_indices(kept)
        self._shift(-unused)

    def join(self, others: PaddedRows) -> None:
        width = max(self.seen.shape[1], others.seen.shape[1])
        for rows in (self, others):
            rows._shift(width - rows.seen.shape[1])
        for mine, theirs in zip(self._layers(), others._layers(), strict=True):
            mine.keys = torch.cat([mine.keys, theirs.keys])  # (B, heads, T, D)
            mine.values = torch.cat([mine.values, theirs.values])
        self.seen = torch.cat([self.seen, others.seen])

    def _compute(self, ids: Tensor, positions: Tensor) -> tuple[Tensor, Any]:
        """Feed ids (B, n) at positions (B, n), which `seen` includes. Returns the last logits (B, V) and the cache."""
        out = self.model(
            input_ids=ids,
            attention_mask=self.seen,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1], out.past_key_values

    def _close_gaps(self) -> None:
        """Move padding between the known and the new part of each row to the left."""
        own = self.seen.bool()
        width = int(own.sum(-1).max())
        for layer in self._layers():
            layer.keys = torch.cat([_widened(keys[:, mine], width) for keys, mine in zip(layer.keys, own, strict=True)])
            layer.values = torch.cat([_widened(v[:, mine], width) for v, mine in zip(layer.values, own, strict=True)])
        self.seen = self.seen.sort(dim=-1, stable=True).values[:, -width:]

    def _shift(self, columns: int) -> None:
        """Add empty columns on the left, or remove columns where negative."""
        if columns:
            self.seen = F.pad(self.seen, (columns, 0))
            for layer in self._layers():
                layer.keys = F.pad(layer.keys, (0, 0, columns, 0))
                layer.values = F.pad(layer.values, (0, 0, columns, 0))

    def _layers(self) -> list[Any]:
        """The layers of a plain cache (`begin` lets no other through), each with `keys` and `values`."""
        return list(self.cache.layers)


def _padded(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Pad with zeros on the left; the mask covers them."""
    width = max(map(len, rows))
    return [[0] * (width - len(row)) + [*row] for row in rows]


def _widened(states: Tensor, width: int) -> Tensor:
    """(heads, T, D) -> (1, heads, width, D), with padding on the left."""
    return F.pad(states, (0, 0, width - states.shape[-2], 0)).unsqueeze(0)


def _fill(cache: DynamicCache, prefixes: Sequence[Prefix | None], width: int) -> None:
    """Fill the cache with the known prefixes, padded to `width`; rows without one are all padding."""
    nothing = next(prefix for prefix in prefixes if prefix).first(0)
    for place, layers in enumerate(zip(*[(prefix or nothing).layers for prefix in prefixes], strict=True)):
        keys, values = (torch.cat([_widened(states[0], width) for states in own]) for own in zip(*layers, strict=True))
        cache.update(keys, values, place)


# -- each row alone --------------------------------------------------------------------------------------------


@dataclass
class _Single:
    tokens: list[int]
    cache: dict[str, Any]  # by the name of the model's argument; empty: the row is computed again each time


@dataclass
class SingleRows:
    """Rows of any causal model; a step takes one forward pass for each row."""

    model: CausalModel
    rows: list[_Single]

    @classmethod
    def begin(cls, model: CausalModel, prompts: Sequence[Sequence[int]]) -> tuple[SingleRows, Tensor]:
        made = cls(model, [])
        logits = []
        for prompt in prompts:
            row = _Single([], {})
            logits.append(made._extend(row, prompt))
            made.rows.append(row)
        return made, torch.cat(logits)

    def advance(self, tokens: Sequence[int]) -> Tensor:
        return torch.cat([self._extend(row, [token]) for row, token in zip(self.rows, tokens, strict=True)])

    def keep(self, places: Sequence[int]) -> None:
        kept: list[_Single] = []
        seen: set[int] = set()
        for place in places:
            row = self.rows[place]
            kept.append(copy.deepcopy(row) if place in seen else row)
            seen.add(place)
        self.rows = kept

    def join(self, others: SingleRows) -> None:
        self.rows += others.rows

    def prefix(self, place: int, tokens: Sequence[int]) -> None:
        """None: such a cache cannot be cut to a shorter prefix."""

    def _extend(self, row: _Single, new: Sequence[int]) -> Tensor:
        """Logits (1, V) after the row's new tokens."""
        device = next(self.model.parameters()).device
        row.tokens += new
        given = new if row.cache else row.tokens
        try:
            out = self.model(input_ids=torch.tensor([given], device=device), use_cache=True, **row.cache)
        except REFUSALS as e:
            if not row.cache:
                raise
            log.info("this model's cache cannot be used (%s); every token is computed from the beginning", one_line(e))
            row.cache = {}
            out = self.model(input_ids=torch.tensor([row.tokens], device=device), use_cache=False)
            return self._last(out)
        row.cache = {name: out[name] for name in ("past_key_values", "cache_params") if out.get(name) is not None}
        return self._last(out)

    @staticmethod
    def _last(out: Any) -> Tensor:
        logits: Tensor = out.logits[:, -1]
        return logits
