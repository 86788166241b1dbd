"""DPO (Rafailov et al. 2023, arXiv 2305.18290, eq. 7) on the same self-play: accepted revision over refused first reply.

L = -log sigmoid(beta * [(log pi(y_w) - log base(y_w)) - (log pi(y_l) - log base(y_l))]), sums over tokens.
Replies that were right at once have no loser and are not trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from experiments.algorithms.base import Algorithm, Experience, Trained, optimise
from experiments.algorithms.spear import on_prompt
from experiments.client_runtime import ClientRuntime
from experiments.play import ClientStreams, self_play
from experiments.tasks.base import Example
from spear_core.training.scoring import score
from spear_core.training.traces import Encoded


@dataclass(frozen=True)
class Pair:
    """A preferred and a refused completion of one prompt, with the base model's log-probability of each."""

    chosen: Encoded
    rejected: Encoded
    base_chosen: float
    base_rejected: float


def dpo_loss(chosen: Tensor, rejected: Tensor, base_chosen: Tensor, base_rejected: Tensor, beta: float) -> Tensor:
    """Sequence log-probabilities, (B,) each -> ()."""
    return -logsigmoid(beta * ((chosen - base_chosen) - (rejected - base_rejected))).mean()


class Dpo(Algorithm[list[Pair]]):
    name: ClassVar[str] = "dpo"
    defaults = {"beta": 0.1}

    def gather(
        self, runtime: ClientRuntime, examples: Sequence[Example], streams: ClientStreams
    ) -> Experience[list[Pair]]:
        episodes = self_play(runtime, examples, streams)
        sides = [(on_prompt(e.replies[0], e.replies[-1]), e.replies[0].encoded) for e in episodes if e.revised]
        base = [float(row.sum()) for row in runtime.base_logps([side for pair in sides for side in pair])]
        pairs = [Pair(*pair, *base[2 * i : 2 * i + 2]) for i, pair in enumerate(sides)]
        return Experience(episodes, pairs, len(pairs))

    def train(
        self, runtime: ClientRuntime, experience: Experience[list[Pair]], learning_rate: float, seed: int
    ) -> Trained:
        def loss(batch: Sequence[Pair]) -> Tensor:
            both = [side for pair in batch for side in (pair.chosen, pair.rejected)]
            logps = score(runtime.model, both, runtime.pad_id, every_token=True).logps.sum(-1)  # (2B,)
            base_chosen = torch.tensor([p.base_chosen for p in batch], device=logps.device)
            base_rejected = torch.tensor([p.base_rejected for p in batch], device=logps.device)
            return dpo_loss(logps[0::2], logps[1::2], base_chosen, base_rejected, self.options["beta"])

        return optimise(runtime, experience.items, loss, learning_rate, seed, lambda p: p.chosen)
