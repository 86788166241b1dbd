"""The optimiser steps of one round on the training twin: wins, losing traces, anchors. No gate, no files."""

from __future__ import annotations

import contextlib
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
from spear_core.forward import completion_logits, confidence_of, mask_of, micro_batches
from spear_core.losses import anchor_kl, lose_loss, token_logps, win_loss
from spear_core.traces import Encoded

log = logging.getLogger(__name__)
ANCHOR_CACHE_BYTES = 192 * 2**20
LEARNED_LONG_TOKENS = 64  # METRICS.md: longer completions count as learned by their mean log p
LEARNED_LONG_LOGP = -0.1


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
    """Base log-probabilities by (prompt, completion); drops the oldest beyond ANCHOR_CACHE_BYTES."""

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
    """Completions whose distribution is held to the base model's, with the base's log-probabilities cached.

    The cache is bounded: at a vocabulary of 150,000 one answer is megabytes.
    """

    def __init__(self, examples: Sequence[Encoded], cache: _Cache | None = None) -> None:
        self.examples = list(examples)
        self._cache = cache or _Cache()

    def with_examples(self, examples: Sequence[Encoded]) -> Anchors:
        """Other anchors over the same cache."""
        return Anchors(examples, self._cache)

    def without(self, prompts: Collection[tuple[int, ...]]) -> Anchors:
        """The same anchors less those that ask what is being corrected right now; the cache is shared."""
        return self.with_examples([e for e in self.examples if e.prompt_ids not in prompts])

    def warm(self, model: Any, pad_id: int) -> None:
        """Fill the cache now, so that the first round need not."""
        for e in self.examples:
            self.base_logps(model, [e], pad_id)

    def base_logps(self, model: Any, examples: Sequence[Encoded], pad_id: int) -> Tensor:
        """(B, C, V) log-probabilities under the base model, that is with the adapter switched off."""
        keys = [(e.prompt_ids, e.completion_ids) for e in examples]
        rows = {key: self._cache.rows[key] for key in keys if key in self._cache.rows}
        missing = [(key, e) for e, key in zip(examples, keys, strict=True) if key not in rows]
        if missing:
            with torch.no_grad(), model.disable_adapter():
                for key, e in missing:
                    # one by one: a row's last bits depend on what it is padded with, and forgetting must be bit-equal
                    logits, _, _ = completion_logits(model, [e], pad_id)
                    rows[key] = torch.log_softmax(logits[0].float(), dim=-1)
                    self._cache.add(key, rows[key])
        width = max(len(e.completion_ids) for e in examples)
        return torch.stack([torch.nn.functional.pad(rows[key], (0, 0, 0, width - rows[key].shape[0])) for key in keys])


@dataclass(frozen=True)
class Material:
    """All that one round may train on, encoded."""

    wins: Sequence[Encoded]
    loses: Sequence[Encoded]
    replay: Sequence[Encoded] = ()
    anchors: Anchors | None = None


def cap_loses(loses: Sequence[Encoded], wins: int, config: SpearConfig, rng: random.Random) -> list[Encoded]:
    """At most `max_lose_ratio` losing traces a win (arXiv 2605.07977, guards); drawn at random beyond that."""
    most = int(config.max_lose_ratio * wins)
    return list(loses) if len(loses) <= most else rng.sample(list(loses), most)


def is_learned(logits: Tensor, targets: Tensor, present: Tensor) -> list[bool]:
    """Per row: is every completion token, EOS included, the argmax; long completions by mean log p. (METRICS.md)"""
    hits = ((logits.argmax(-1) == targets) | ~present).all(-1)
    lengths = present.sum(-1)
    long = lengths > LEARNED_LONG_TOKENS
    if long.any():
        mean = (token_logps(logits, targets) * present).sum(-1) / lengths
        hits = torch.where(long, mean >= LEARNED_LONG_LOGP, hits)
    return [bool(h) for h in hits]


def learned_rows(model: Any, examples: Sequence[Encoded], pad_id: int, micro_batch: int) -> list[bool]:
    out: list[bool] = []
    with torch.no_grad():
        for part in micro_batches(examples, micro_batch):
            out += is_learned(*completion_logits(model, part, pad_id))
    return out


class Trainer:
    """Trains the LoRA parameters of one PeftModel. `pace` is called between micro-steps and may wait."""

    def __init__(
        self,
        model: Any,
        config: SpearConfig,
        pad_id: int,
        template_ids: frozenset[int],
        pace: Callable[[], None] = lambda: None,
    ) -> None:
        self.model = model
        self.config = config
        self.pad_id = pad_id
        self.template_ids = template_ids
        self.pace = pace

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
        confirmed = [w for w in material.wins if w.confirmed]
        max_steps = cfg.max_steps if confirmed or not cfg.stop_when_learned else min(cfg.judged_steps, cfg.max_steps)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=learning_rate or cfg.learning_rate, weight_decay=0.0)
        self.model.train(cfg.lora_dropout > 0)
        sums = {"win": 0.0, "lose": 0.0, "anchor": 0.0}
        steps, learned = 0, False
        try:
            with _dropout_seed(seed) if cfg.lora_dropout > 0 else contextlib.nullcontext():
                settled = 0  # steps done since everything was learned
                while steps < max_steps:
                    if cfg.stop_when_learned and confirmed and (settled or steps % cfg.check_every == 0):
                        learned = settled > 0 or all(learned_rows(self.model, confirmed, self.pad_id, cfg.micro_batch))
                        if learned and settled >= cfg.settle_steps:
                            break
                        settled += learned
                    for name, value in self._step(material, loses, optimizer, parameters, rng).items():
                        sums[name] += value
                    steps += 1
                    on_step(Progress(steps, max_steps))
                if confirmed and (settled or not learned):
                    learned = all(learned_rows(self.model, confirmed, self.pad_id, cfg.micro_batch))
        finally:
            self.model.eval()
            optimizer.zero_grad(set_to_none=True)
        n = max(steps, 1)
        return Report(steps, learned, sums["win"] / n, sums["lose"] / n, sums["anchor"] / n, time.monotonic() - started)

    # -- one step --------------------------------------------------------------------------------------------

    def _step(
        self, material: Material, loses: list[Encoded], optimizer: Any, parameters: list[Tensor], rng: random.Random
    ) -> dict[str, float]:
        cfg = self.config
        wins = _draw(material.wins, cfg.wins_a_step, rng) + _draw(material.replay, cfg.replay_wins, rng)
        drawn_loses = _draw(loses, cfg.loses_a_step, rng) if cfg.lambda_lose > 0 else []
        values = {"win": self._wins(self._drop(wins, rng)), "lose": 0.0, "anchor": 0.0}
        if drawn_loses:
            values["lose"] = self._loses(drawn_loses)
        if material.anchors and material.anchors.examples and cfg.anchor_weight > 0 and cfg.anchors_a_step > 0:
            values["anchor"] = self._anchors(
                material.anchors, _draw(material.anchors.examples, cfg.anchors_a_step, rng)
            )
        norm = torch.nn.utils.clip_grad_norm_(parameters, cfg.max_grad_norm)
        if not all(math.isfinite(v) for v in values.values()) or not math.isfinite(norm.item()):
            raise TrainingFailed("the training step gave a loss or gradient that is not a finite number")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return values

    def _wins(self, examples: list[Encoded]) -> float:
        total, tokens = 0.0, sum(sum(e.mask) for e in examples)
        for part in micro_batches(examples, self.config.micro_batch):
            self.pace()
            logits, targets, _ = completion_logits(self.model, part, self.pad_id)
            mask = mask_of(part, targets.shape[1], logits.device)
            loss = win_loss(token_logps(logits, targets), mask, confidence_of(part, logits.device), tokens)
            (self.config.lambda_win * loss).backward()
            total += loss.item()
        return total

    def _loses(self, examples: list[Encoded]) -> float:
        total, tokens = 0.0, sum(sum(e.mask) for e in examples)
        mean = sum(e.confidence for e in examples) / len(examples)
        for part in micro_batches(examples, self.config.micro_batch):
            self.pace()
            logits, targets, _ = completion_logits(self.model, part, self.pad_id)
            confidence = confidence_of(part, logits.device)
            if self.config.confidence_form == "batch_mean":
                confidence = torch.full_like(confidence, mean)
            mask = mask_of(part, targets.shape[1], logits.device)
            loss = lose_loss(token_logps(logits, targets), mask, confidence, self.config.margin, tokens)
            (self.config.lambda_lose * loss).backward()
            total += loss.item()
        return total

    def _anchors(self, anchors: Anchors, examples: list[Encoded]) -> float:
        total, tokens = 0.0, sum(sum(e.mask) for e in examples)
        for part in micro_batches(examples, self.config.micro_batch):
            self.pace()
            base = anchors.base_logps(self.model, part, self.pad_id)
            logits, _, present = completion_logits(self.model, part, self.pad_id)
            loss = anchor_kl(base, logits, present.float(), tokens)
            (self.config.anchor_weight * loss).backward()
            total += loss.item()
        return total

    def _drop(self, examples: list[Encoded], rng: random.Random) -> list[Encoded]:
        """Leave out a share of the question's ordinary tokens, so that the answer hangs on what all wordings share."""
        share = self.config.prompt_dropout
        if share <= 0:
            return examples
        return [
            replace(e, prompt_ids=tuple(t for t in e.prompt_ids if t in self.template_ids or rng.random() >= share))
            for e in examples
        ]


@contextlib.contextmanager
def _dropout_seed(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _draw(pool: Sequence[Encoded], most: int, rng: random.Random) -> list[Encoded]:
    return list(pool) if len(pool) <= most else rng.sample(list(pool), most)
