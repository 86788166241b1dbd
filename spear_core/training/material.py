"""What one round may train on, and what of it a step takes. No model is trained here, no files."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor

from spear_core.config import SpearConfig
from spear_core.training.scoring import predict
from spear_core.training.traces import Encoded
from spear_core.training.wordings import Wordings

ANCHOR_CACHE_BYTES = 192 * 2**20
WARMED_TOGETHER = 16


class _Cache:
    """What is kept of the base model by (prompt, completion); drops the oldest beyond ANCHOR_CACHE_BYTES."""

    def __init__(self) -> None:
        self.rows: OrderedDict[tuple[tuple[int, ...], tuple[int, ...]], Tensor] = OrderedDict()
        self.bytes = 0

    def add(self, key: tuple[tuple[int, ...], tuple[int, ...]], row: Tensor) -> None:
        self.rows[key] = row
        self.bytes += row.numel() * row.element_size()
        while self.bytes > ANCHOR_CACHE_BYTES:
            _, old = self.rows.popitem(last=False)
            self.bytes -= old.numel() * old.element_size()

    def keep(self, keys: Collection[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
        self.rows = OrderedDict((key, row) for key, row in self.rows.items() if key in keys)
        self.bytes = sum(row.numel() * row.element_size() for row in self.rows.values())


class Anchors:
    """Completions whose distribution is held to the base model's, with what makes the base's distribution cached.

    The cache is bounded: at a vocabulary of 150,000 the log-probabilities of one answer are megabytes.
    """

    def __init__(self, examples: Sequence[Encoded], cache: _Cache | None = None) -> None:
        self.examples = list(examples)
        self._cache = cache or _Cache()

    def with_examples(self, examples: Sequence[Encoded]) -> Anchors:
        """Other anchors over the same cache."""
        return Anchors(examples, self._cache)

    def without(self, prompts: Collection[tuple[int, ...]]) -> Anchors:
        """The same anchors less those that ask what was corrected; the cache is shared."""
        return self.with_examples([e for e in self.examples if e.prompt_ids not in prompts])

    def forget(self, keep: Sequence[Encoded] = ()) -> None:
        """Drop what is cached of every text but these."""
        kept = {(e.prompt_ids, e.completion_ids) for e in (x.shown_to_base for x in keep)}
        self._cache.keep(kept)

    def warm(self, model: PeftModel, pad_id: int) -> Iterator[None]:
        """Fill the cache, so that a round need not: WARMED_TOGETHER examples at each step of the iterator."""
        for start in range(0, len(self.examples), WARMED_TOGETHER):
            yield
            self.base(model, self.examples[start : start + WARMED_TOGETHER], pad_id)

    def base(self, model: PeftModel, examples: Sequence[Encoded], pad_id: int) -> Tensor:
        """What `Predictions.kl_from` needs of the base model, that is with the adapter off: (tokens, H) or (tokens, V)."""
        shown = [e.shown_to_base for e in examples]
        keys = [(e.prompt_ids, e.completion_ids) for e in shown]
        rows = {key: row for key in keys if (row := self._cache.rows.get(key)) is not None}
        if len(rows) < len(set(keys)):
            with torch.no_grad(), model.disable_adapter():  # once for all: to turn it off PEFT walks all modules
                for key, example in zip(keys, shown, strict=True):
                    if key not in rows:
                        # one by one: a row's last bits depend on what it is packed with, and forgetting is bit-equal
                        rows[key] = predict(model, [example], pad_id, every_token=True).as_base().clone()
                        self._cache.add(key, rows[key])
        return torch.cat([rows[key] for key in keys])

    @staticmethod
    def base_once(model: PeftModel, examples: Sequence[Encoded], pad_id: int) -> Tensor:
        """The same for questions that will hardly come again; nothing is cached."""
        with torch.no_grad(), model.disable_adapter():
            return predict(model, examples, pad_id, every_token=True).as_base()


@dataclass(frozen=True)
class HeldNeighbour:
    """A question like a corrected one, about something else, as two examples that are held to the base model.

    Along the base model's own answer, and along the taught answer forced upon this question: so that it stays as
    improbable here as it was. `confidence` of both is the weight of their KL.
    """

    own: Encoded
    taught: Encoded


@dataclass(frozen=True)
class HeldNeighbours:
    """Of the round's own wins (`new`) and of earlier corrections; `pool` has the cache."""

    pool: Anchors
    new: Sequence[HeldNeighbour]
    earlier: Sequence[HeldNeighbour] = ()


@dataclass(frozen=True)
class Material:
    """All that one round may train on, encoded."""

    wins: Sequence[Encoded]
    loses: Sequence[Encoded]
    replay: Sequence[Encoded] = ()
    anchors: Anchors | None = None
    forgotten: Sequence[Encoded] = ()  # of `replay`: wins that the adapter has lost, and that are practised first
    regained: Sequence[Encoded] = ()  # of `forgotten`: training goes on until they are learned again, like the new wins
    # Questions about something else: the base model's own answer to them, and the taught answer forced upon them. Held
    # to the base's distribution along both, so that the taught answer stays as improbable there as it was.
    neighbours: HeldNeighbours | None = None
    wordings: Wordings | None = None  # of the wins in other words


def cap_loses(loses: Sequence[Encoded], wins: int, config: SpearConfig, rng: random.Random) -> list[Encoded]:
    """At most `max_lose_ratio` losing traces a win (arXiv 2605.07977, guards); drawn at random beyond that."""
    most = int(config.max_lose_ratio * wins)
    return list(loses) if len(loses) <= most else rng.sample(list(loses), most)


class DriftDraw:
    """Which examples a step takes: a share of those that moved most when last seen in this round, the rest in turn.

    A correction outside of what a model knows well moves a few kinds of answers far and most not at all; drawn evenly,
    the few are hardly ever seen.
    """

    def __init__(self, count: int, rng: random.Random, drift_share: float) -> None:
        self.drift_share = drift_share
        self.drift: dict[int, float] = {}  # index -> how far it had moved when last seen, in nats per token
        self._order = list(range(count))
        rng.shuffle(self._order)
        self._next = 0

    def draw(self, count: int) -> list[int]:
        """Indices of the examples of the next step, at most `count`, each once."""
        count = min(count, len(self._order))
        worst = sorted(self.drift, key=lambda i: (-self.drift[i], i))[: int(self.drift_share * count)]
        drawn = list(worst)
        while len(drawn) < count:
            index = self._order[self._next % len(self._order)]
            self._next += 1
            if index not in drawn:
                drawn.append(index)
        return drawn


def worded(
    new: Sequence[Encoded], older: Sequence[Encoded], wordings: Wordings | None, a_step: int, rng: random.Random
) -> list[Encoded]:
    """New wins as they were asked and in some other wordings, older ones in one of theirs."""
    if wordings is None:
        return [*new, *older]
    out = []
    for e in new:
        out += [e, *draw_some(wordings.of(e), a_step, rng)]
    return [*out, *(rng.choice([e, *wordings.of(e)]) for e in older)]


def draw_some(pool: Sequence[Encoded], most: int, rng: random.Random) -> list[Encoded]:
    """At most so many of them, all where there are no more."""
    return list(pool) if len(pool) <= most else rng.sample(list(pool), most)
