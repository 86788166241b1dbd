"""One interface for all algorithms: gather experience on a client's prompts, then train the adapter on it."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from experiments.client_runtime import ClientRuntime
from experiments.play import ClientStreams, Episode
from experiments.tasks.base import Example
from spear_core.errors import ConfigError, TrainingFailed
from spear_core.training.packing import batches_by_prompt
from spear_core.training.traces import Encoded

Item = TypeVar("Item")


@dataclass(frozen=True)
class Experience(Generic[Item]):
    """What one client gathered: episodes for counting, items for training, and its weight in the average."""

    episodes: list[Episode]
    items: Item
    weight: int


@dataclass(frozen=True)
class Trained:
    steps: int
    loss: float  # mean over the steps


class Algorithm(ABC, Generic[Item]):
    """Stateless but for its options, so that any process can play any client."""

    name: ClassVar[str]
    defaults: ClassVar[dict[str, float]] = {}

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        unknown = set(options or {}) - set(self.defaults)
        if unknown:
            known = ", ".join(self.defaults) or "none"
            raise ConfigError(f"unknown option algorithm.{min(unknown)} of {self.name}; there are: {known}")
        self.options: dict[str, float] = {**self.defaults, **(options or {})}

    @abstractmethod
    def gather(self, runtime: ClientRuntime, examples: Sequence[Example], streams: ClientStreams) -> Experience[Item]:
        """Let the model play the examples."""

    @abstractmethod
    def train(self, runtime: ClientRuntime, experience: Experience[Item], learning_rate: float, seed: int) -> Trained:
        """Train the adapter that is loaded. Raises TrainingFailed on a number that is not finite."""


def optimise(
    runtime: ClientRuntime, items: Sequence[Item], loss: Callable[[Sequence[Item]], Tensor], learning_rate: float, seed: int,
    prompt_of: Callable[[Item], Encoded],
) -> Trained:  # fmt: skip
    """The client's optimiser steps: AdamW without weight decay, gradients clipped, a fresh draw of items each step.

    A step draws as many items as spear draws wins and losing traces together. `loss` is a mean over its items, so that
    micro-batches weighted by their size give the whole batch's gradient; items of one prompt stay together.
    """
    cfg = runtime.config
    if not items:
        return Trained(0, 0.0)
    rng = random.Random(seed)
    parameters = [p for p in runtime.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    size = min(len(items), cfg.wins_a_step + cfg.loses_a_step)
    total = 0.0
    runtime.model.train(cfg.lora_dropout > 0)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # of dropout
            for _ in range(cfg.max_steps):
                batch = rng.sample(list(items), size)
                for indices in batches_by_prompt([prompt_of(item) for item in batch], cfg.micro_batch):
                    value = loss([batch[i] for i in indices]) * (len(indices) / size)
                    value.backward()
                    total += value.item()
                norm = torch.nn.utils.clip_grad_norm_(parameters, cfg.max_grad_norm)
                if not math.isfinite(norm.item()) or not math.isfinite(total):
                    raise TrainingFailed("a training step gave a loss or gradient that is not a finite number")
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
    finally:
        runtime.model.eval()
        optimizer.zero_grad(set_to_none=True)
    return Trained(cfg.max_steps, total / cfg.max_steps)
