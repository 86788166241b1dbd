"""KTO (Ethayarajh et al. 2024, arXiv 2402.01306, eq. 7-8) on the same self-play: single replies, right or wrong.

With r = log pi(y) - log base(y): 1 - sigmoid(beta * (r - z)) for accepted, 1 - sigmoid(beta * (z - r)) for refused replies.
z = max(0, mean of r over prompts matched with another prompt's reply) estimates the KL, without a gradient, as the
authors and TRL do; it is taken once per micro-batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from experiments.algorithms.base import Algorithm, Experience, Trained, optimise
from experiments.algorithms.spear import on_prompt
from experiments.client_runtime import ClientRuntime
from experiments.play import ClientStreams, self_play
from experiments.tasks.base import Example
from spear_core.training.scoring import score
from spear_core.training.traces import Encoded


@dataclass(frozen=True)
class Judged:
    """A reply, whether it was accepted, another prompt's reply to the same prompt, and the base model's view of both."""

    encoded: Encoded
    accepted: bool
    mismatched: Encoded
    base: float
    base_mismatched: float


def kto_loss(ratios: Tensor, accepted: Tensor, z: Tensor, beta: float) -> Tensor:
    """ratios r (B,), accepted (B,) of booleans, z () -> ()."""
    signed = torch.where(accepted, ratios - z, z - ratios)
    return (1 - torch.sigmoid(beta * signed)).mean()


def mismatched_pairs(replies: Sequence[Encoded]) -> list[Encoded]:
    """Each prompt with the next reply to another one; with its own where there is no other."""
    found = []
    for i, reply in enumerate(replies):
        others = (r for r in (*replies[i + 1 :], *replies[:i]) if r.prompt_ids != reply.prompt_ids)
        found.append(replace(next(others, reply), prompt_ids=reply.prompt_ids))
    return found


class Kto(Algorithm[list[Judged]]):
    name: ClassVar[str] = "kto"
    defaults = {"beta": 0.1}

    def gather(
        self, runtime: ClientRuntime, examples: Sequence[Example], streams: ClientStreams
    ) -> Experience[list[Judged]]:
        episodes = self_play(runtime, examples, streams)
        replies: list[tuple[Encoded, bool]] = []
        for e in episodes:
            replies += [(on_prompt(e.replies[0], e.replies[-1]), True)] if e.solved else []
            replies += [(e.replies[0].encoded, False)] if not e.accepted[0] else []
        encoded = [r for r, _ in replies]
        mismatched = mismatched_pairs(encoded)
        base = [float(row.sum()) for row in runtime.base_logps([*encoded, *mismatched])]
        items = [
            Judged(e, accepted, mismatched[i], base[i], base[len(encoded) + i])
            for i, (e, accepted) in enumerate(replies)
        ]
        return Experience(episodes, items, sum(accepted for _, accepted in replies))

    def train(
        self, runtime: ClientRuntime, experience: Experience[list[Judged]], learning_rate: float, seed: int
    ) -> Trained:
        def loss(batch: Sequence[Judged]) -> Tensor:
            logps = score(runtime.model, [j.encoded for j in batch], runtime.pad_id, every_token=True).logps.sum(-1)
            base = torch.tensor([j.base for j in batch], device=logps.device)
            others = torch.stack([row.sum() for row in runtime.logps([j.mismatched for j in batch])])
            z = (others - torch.tensor([j.base_mismatched for j in batch], device=logps.device)).mean().clamp(min=0)
            accepted = torch.tensor([j.accepted for j in batch], device=logps.device)
            return kto_loss(logps - base, accepted, z, self.options["beta"])

        return optimise(runtime, experience.items, loss, learning_rate, seed, lambda j: j.encoded)
