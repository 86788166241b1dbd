"""The optimiser steps of one round on the training model: wins, losing traces, anchors. No gate, no files."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spear_core.config import SpearConfig
from spear_core.errors import TrainingFailed
from spear_core.training.losses import lose_loss, win_loss
from spear_core.training.packing import batches_by_prompt
from spear_core.training.scoring import Row, checkpointed, predict, score_rows
from spear_core.training.traces import Encoded

log = logging.getLogger(__name__)
ANCHOR_CACHE_BYTES = 192 * 2**20
WARMED_TOGETHER = 16  # anchors between two looks whether training should wait
SMALL_P = 0.05  # a rejected answer this improbable need not fall further
PATIENCE = 8  # times the settling steps are spent on making a rejected answer fall that rose with the right one
PRESSURE = 0.1  # weight of unlikelihood, without a margin, in these further steps where the preset has none


@dataclass(frozen=True)
class Progress:
    """Told after every step: how far, out of how many at most."""

    step: int
    max_steps: int


@dataclass(frozen=True)
class Report:
    """Means over the steps, unless said otherwise."""

    steps: int
    learned: bool  # every human-confirmed new win is reproduced greedily
    win_loss: float
    lose_loss: float
    anchor_kl: float
    seconds: float
    skipped: bool = False


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

    def warm(self, model: Any, pad_id: int, priority: Callable[[], None] = lambda: None) -> None:
        """Fill the cache now, so that the first round need not."""
        for start in range(0, len(self.examples), WARMED_TOGETHER):
            priority()
            self.base(model, self.examples[start : start + WARMED_TOGETHER], pad_id)

    def base(self, model: Any, examples: Sequence[Encoded], pad_id: int) -> Tensor:
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
    def base_once(model: Any, examples: Sequence[Encoded], pad_id: int) -> Tensor:
        """The same for questions that will hardly come again; nothing is cached."""
        with torch.no_grad(), model.disable_adapter():
            return predict(model, examples, pad_id, every_token=True).as_base()


@dataclass(frozen=True)
class Material:
    """All that one round may train on, encoded."""

    wins: Sequence[Encoded]
    loses: Sequence[Encoded]
    replay: Sequence[Encoded] = ()
    anchors: Anchors | None = None
    forgotten: Sequence[Encoded] = ()  # of `replay`: wins that the adapter has lost, and that half of it is drawn from


def cap_loses(loses: Sequence[Encoded], wins: int, config: SpearConfig, rng: random.Random) -> list[Encoded]:
    """At most `max_lose_ratio` losing traces a win (arXiv 2605.07977, guards); drawn at random beyond that."""
    most = int(config.max_lose_ratio * wins)
    return list(loses) if len(loses) <= most else rng.sample(list(loses), most)


class AnchorDraw:
    """Which anchors a step is held to: a share of those that drifted most when last seen in this round, the rest in turn.

    A correction outside of what a model knows well moves a few kinds of answers far and most not at all; drawn evenly,
    the few are hardly ever seen.
    """

    def __init__(self, anchors: Anchors, rng: random.Random, drift_share: float) -> None:
        self.anchors = anchors
        self.drift_share = drift_share
        self.drift: dict[int, float] = {}  # index -> KL per token when last seen
        self._order = list(range(len(anchors.examples)))
        rng.shuffle(self._order)
        self._next = 0

    def draw(self, count: int) -> list[int]:
        """Indices of the anchors of the next step, at most `count`, each once."""
        count = min(count, len(self._order))
        worst = sorted(self.drift, key=lambda i: (-self.drift[i], i))[: int(self.drift_share * count)]
        drawn = list(worst)
        while len(drawn) < count:
            index = self._order[self._next % len(self._order)]
            self._next += 1
            if index not in drawn:
                drawn.append(index)
        return drawn


@dataclass(frozen=True)
class _Part:
    """The rows of one micro-step."""

    wins: Sequence[Encoded]
    loses: Sequence[Encoded]
    anchors: Sequence[Encoded]
    lambda_lose: float
    margin: float


class Trainer:
    """Trains the LoRA parameters of one PeftModel. `pace` is called between micro-steps and may wait."""

    def __init__(
        self,
        model: Any,
        config: SpearConfig,
        pad_id: int,
        template_ids: frozenset[int],
        priority: Callable[[], None] = lambda: None,
    ) -> None:
        self.model = model
        self.config = config
        self.pad_id = pad_id
        self.template_ids = template_ids
        self.priority = priority

    def train(
        self,
        material: Material,
        seed: int,
        on_step: Callable[[Progress], None] = lambda p: None,
        learning_rate: float | None = None,
    ) -> Report:
        """Run the round's steps. Without a win nothing is trained (unlikelihood alone collapses the model).

        Raises TrainingFailed on a loss or gradient that is not finite.
        """
        cfg = self.config
        started = time.monotonic()
        if not material.wins:
            return Report(0, False, 0.0, 0.0, 0.0, 0.0, skipped=True)
        rng = random.Random(seed)
        loses = cap_loses(material.loses, len(material.wins), cfg, rng)
        rejected = [e for e in loses if any(e.mask)]
        confirmed = [w for w in material.wins if w.confirmed]
        max_steps = cfg.max_steps if confirmed or not cfg.stop_when_learned else min(cfg.judged_steps, cfg.max_steps)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=learning_rate or cfg.learning_rate, weight_decay=0.0)
        self.model.train(cfg.lora_dropout > 0)
        sums = {"win": 0.0, "lose": 0.0, "anchor": 0.0}
        steps, learned = 0, False
        try:
            with self._modes(seed):
                anchors = AnchorDraw(material.anchors or Anchors([]), rng, cfg.anchor_drift_share)
                settled = 0  # steps done since everything was learned
                highest = max(self._probability(rejected), SMALL_P) if cfg.stop_when_learned else 1.0
                drift = 0.0  # of the last step's anchors
                pressing = False  # all is learned, but a rejected answer rose too
                while steps < max_steps:
                    if cfg.stop_when_learned and confirmed and (settled or steps % cfg.check_every == 0):
                        learned = settled > 0 or self._all_learned(confirmed)
                        settled_enough = learned and settled >= cfg.settle_steps and drift <= cfg.settle_drift
                        out_of_patience = settled >= PATIENCE * cfg.settle_steps
                        if settled_enough and (out_of_patience or self._probability(rejected) <= highest):
                            break
                        pressing = settled_enough
                        settled += learned
                    values = self._step(material, loses, anchors, optimizer, parameters, rng, pressing)
                    drift = values["anchor"]
                    for name, value in values.items():
                        sums[name] += value
                    steps += 1
                    on_step(Progress(steps, max_steps))
                if confirmed and (settled or not learned):
                    learned = self._all_learned(confirmed)
        finally:
            self.model.eval()
            optimizer.zero_grad(set_to_none=True)
        n = max(steps, 1)
        return Report(steps, learned, sums["win"] / n, sums["lose"] / n, sums["anchor"] / n, time.monotonic() - started)

    @contextlib.contextmanager
    def _modes(self, seed: int) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if self.config.lora_dropout > 0:
                stack.enter_context(_dropout_seed(seed))
            if self.config.gradient_checkpointing:
                stack.enter_context(checkpointed(self.model))
            yield

    def _rows(self, examples: Sequence[Encoded]) -> list[Row]:
        training = self.model.training
        self.model.eval()  # as it will answer: without dropout
        rows = score_rows(self.model, examples, self.pad_id, self.config.micro_batch, self.priority)
        self.model.train(training)
        return rows

    def _all_learned(self, confirmed: Sequence[Encoded]) -> bool:
        return all(row.learned for row in self._rows(confirmed))

    def _probability(self, rejected: Sequence[Encoded]) -> float:
        """Of what made the rejected answers wrong, mean over the answers."""
        return sum(math.exp(row.masked_logp) for row in self._rows(rejected)) / max(1, len(rejected))

    # -- one step --------------------------------------------------------------------------------------------

    def _step(
        self,
        material: Material,
        loses: list[Encoded],
        pool: AnchorDraw,
        optimizer: Any,
        parameters: list[Tensor],
        rng: random.Random,
        pressing: bool,
    ) -> dict[str, float]:
        cfg = self.config
        lambda_lose, margin = (PRESSURE, 0.0) if pressing and not cfg.lambda_lose else (cfg.lambda_lose, cfg.margin)
        again = _draw(material.forgotten, cfg.replay_wins // 2, rng)
        wins = (
            _draw(material.wins, cfg.wins_a_step, rng)
            + again
            + _draw(material.replay, cfg.replay_wins - len(again), rng)
        )
        drawn_loses = _draw(loses, cfg.loses_a_step, rng) if lambda_lose > 0 else []
        drawn = pool.draw(cfg.anchors_a_step) if cfg.anchor_weight > 0 else []
        drawn.sort(key=lambda i: pool.anchors.examples[i].base_prompt_ids is not None)  # as `_base` takes them
        rows = [*self._drop([*wins, *drawn_loses], rng, cfg.prompt_dropout), *self._drop_of_anchors(pool, drawn, rng)]
        sides = (0, len(wins), len(wins) + len(drawn_loses), len(rows))
        tokens = [max(1.0, float(sum(sum(e.mask) for e in rows[a:b]))) for a, b in itertools.pairwise(sides)]
        totals = dict(zip(("win", "lose", "anchor"), tokens, strict=True))
        mean = sum(e.confidence for e in drawn_loses) / max(1, len(drawn_loses))
        values = {"win": 0.0, "lose": 0.0, "anchor": 0.0}
        for indices in batches_by_prompt(rows, cfg.micro_batch):
            of_side = [[i for i in sorted(indices) if a <= i < b] for a, b in itertools.pairwise(sides)]
            of_wins, of_loses, of_anchors = ([rows[i] for i in side] for side in of_side)
            part = _Part(of_wins, of_loses, of_anchors, lambda_lose, margin)
            losses, drifts = self._part(part, pool.anchors, totals, mean)
            for name, value in losses.items():
                values[name] += value
            pool.drift.update((drawn[i - sides[2]], drift) for i, drift in zip(of_side[2], drifts, strict=True))
        norm = torch.nn.utils.clip_grad_norm_(parameters, cfg.max_grad_norm)
        if not all(math.isfinite(v) for v in values.values()) or not math.isfinite(norm.item()):
            raise TrainingFailed("the training step gave a loss or gradient that is not a finite number")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return values

    def _part(
        self, part: _Part, pool: Anchors, totals: dict[str, float], mean_lose_confidence: float
    ) -> tuple[dict[str, float], list[float]]:
        """One micro-step: a backbone pass over wins, losing traces and anchors together, and its gradients.

        Returns the losses, and of each anchor how far it is from the base model, in nats per token.
        """
        cfg = self.config
        self.priority()
        base = self._base(pool, part.anchors) if part.anchors else None
        both = predict(self.model, [*part.wins, *part.loses, *part.anchors], self.pad_id)
        wins, rest = both.split(len(part.wins))
        loses, anchors = rest.split(len(part.loses))
        losses: dict[str, Tensor] = {}
        drifts: list[float] = []
        if part.wins:
            scores = wins.scores()
            losses["win"] = win_loss(scores.logps, scores.scored.float(), self._confidence(part.wins), totals["win"])
        if part.loses:
            scores, confidence = loses.scores(), self._confidence(part.loses)
            if cfg.confidence_form == "batch_mean":
                confidence = torch.full_like(confidence, mean_lose_confidence)
            losses["lose"] = lose_loss(scores.logps, scores.scored.float(), confidence, part.margin, totals["lose"])
        if base is not None:
            kl = anchors.kl_from(base)[0]  # (tokens,)
            losses["anchor"] = kl.sum() / totals["anchor"]
            of_anchor = anchors.packed.unflatten(kl.detach(), anchors.shape).sum(-1).tolist()
            drifts = [total / len(e.completion_ids) for total, e in zip(of_anchor, part.anchors, strict=True)]
        weights = {"win": cfg.lambda_win, "lose": part.lambda_lose, "anchor": cfg.anchor_weight}
        sum((weights[name] * loss for name, loss in losses.items()), torch.zeros(())).backward()
        return {name: loss.item() for name, loss in losses.items()}, drifts

    def _base(self, pool: Anchors, anchors: Sequence[Encoded]) -> Tensor:
        """What the base model says of these anchors, those first whose questions were cut."""
        if not self.config.anchor_dropout:
            return pool.base(self.model, anchors, self.pad_id)
        cut = [e for e in anchors if e.base_prompt_ids is None]
        whole = anchors[len(cut) :]
        parts = [pool.base_once(self.model, cut, self.pad_id)] if cut else []
        return torch.cat([*parts, pool.base(self.model, whole, self.pad_id)] if whole else parts)

    def _drop_of_anchors(self, pool: AnchorDraw, drawn: Sequence[int], rng: random.Random) -> list[Encoded]:
        """The drawn anchors, their questions cut for both models alike; whole where the base model is shown another."""
        anchors = [pool.anchors.examples[i] for i in drawn]
        cut = [e for e in anchors if e.base_prompt_ids is None]
        return [*self._drop(cut, rng, self.config.anchor_dropout), *anchors[len(cut) :]]

    def _confidence(self, examples: Sequence[Encoded]) -> Tensor:
        device = next(self.model.parameters()).device
        return torch.tensor([e.confidence for e in examples], device=device)  # (B,)

    def _drop(self, examples: list[Encoded], rng: random.Random, share: float) -> list[Encoded]:
        """Leave out a share of the question's ordinary tokens, so that the answer hangs on what all wordings share."""
        if share <= 0:
            return examples
        dropped: dict[tuple[int, ...], tuple[int, ...]] = {}  # once a prompt: what shares a prompt goes on sharing it
        variants = self.config.prompt_variants
        for e in examples:
            if e.prompt_ids not in dropped:
                # of the fixed choices one, the same ones in every round: what the lower layers make of it is kept
                draw = random.Random(f"{rng.randrange(variants)} {e.prompt_ids}") if variants else rng
                kept = (t for t in e.prompt_ids if t in self.template_ids or draw.random() >= share)
                dropped[e.prompt_ids] = tuple(kept) or e.prompt_ids[-1:]
        return [replace(e, prompt_ids=dropped[e.prompt_ids]) for e in examples]


@contextlib.contextmanager
def _dropout_seed(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _draw(pool: Sequence[Encoded], most: int, rng: random.Random) -> list[Encoded]:
    return list(pool) if len(pool) <= most else rng.sample(list(pool), most)
