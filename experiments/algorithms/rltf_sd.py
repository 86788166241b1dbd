"""RLTF-SD (arXiv 2602.02482): two turns with text feedback between, self-distillation of the second into the first.

With y0 ~ pi(.|x), feedback, y1 ~ pi(.|x, y0, feedback) and rewards r0, r1 in a group of G episodes of one prompt:

- L_sd = -mean A_sd * log pi(y1 | x) per token, A_sd = r1 - mean(r0), without an importance ratio;
- L_rl = -mean (R - mean(R)) * log pi on both turns, on the context each was sampled in: R0 = r0 + gamma * r1, R1 = r1;
- L = sd * L_sd + rl * L_rl + kl * KL(policy || base).

An episode that is right at its first turn needs no feedback and ends there, with r1 = 1 and no second turn to train.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from experiments.algorithms.base import Algorithm, Experience, Trained, optimise
from experiments.algorithms.groups import kl_estimate, sequence_mean
from experiments.algorithms.spear import on_prompt
from experiments.client_runtime import ClientRuntime, padded
from experiments.play import ClientStreams, self_play
from experiments.tasks.base import Example
from spear_core.training.scoring import score
from spear_core.training.traces import Encoded


@dataclass(frozen=True)
class Weighted:
    """A completion in a context, what its log-probability is multiplied by, and the base model's log-probabilities."""

    encoded: Encoded
    weight: float
    base: Tensor


def rltf_loss(logps: Tensor, base: Tensor, weights: Tensor, mask: Tensor, kl: float) -> Tensor:
    """logps, base, mask (B, C); weights (B,) = sd * A_sd or rl * A_rl -> ()."""
    return sequence_mean(kl * kl_estimate(logps, base) - weights.unsqueeze(1) * logps, mask)


def turn_weights(r0: Tensor, r1: Tensor, gamma: float, sd: float, rl: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of (y1 on x, y0 on x, y1 on its own context), each (P, G), from rewards (P, G)."""
    first = r0 + gamma * r1
    distil = r1 - r0.mean(dim=1, keepdim=True)
    return (
        sd * distil,
        rl * (first - first.mean(dim=1, keepdim=True)),
        rl * (r1 - r1.mean(dim=1, keepdim=True)),
    )


class RltfSd(Algorithm[list[Weighted]]):
    name: ClassVar[str] = "rltf_sd"
    defaults = {"sd": 0.1, "rl": 1.0, "kl": 0.02, "gamma": 1.0}

    def gather(
        self, runtime: ClientRuntime, examples: Sequence[Example], streams: ClientStreams
    ) -> Experience[list[Weighted]]:
        group, o = runtime.play.group, self.options
        episodes = self_play(runtime, [e for e in examples for _ in range(group)], streams, num_revisions=1)
        r0 = torch.tensor([e.accepted[0] for e in episodes], dtype=torch.float32).view(-1, group)
        r1 = torch.tensor([e.solved for e in episodes], dtype=torch.float32).view(-1, group)
        weights = turn_weights(r0, r1, o["gamma"], o["sd"], o["rl"])
        flat = [w.flatten().tolist() for w in weights]
        parts: list[tuple[Encoded, float]] = []
        for i, e in enumerate(episodes):
            parts.append((e.replies[0].encoded, flat[1][i]))
            if len(e.replies) > 1:
                parts.append((e.replies[1].encoded, flat[2][i]))
                parts.append((on_prompt(e.replies[0], e.replies[1]), flat[0][i]))
        base = runtime.base_logps([encoded for encoded, _ in parts])
        items = [Weighted(encoded, weight, b) for (encoded, weight), b in zip(parts, base, strict=True)]
        return Experience(episodes[::group], items, sum(e.solved for e in episodes))

    def train(
        self, runtime: ClientRuntime, experience: Experience[list[Weighted]], learning_rate: float, seed: int
    ) -> Trained:
        def loss(batch: Sequence[Weighted]) -> Tensor:
            logps = score(runtime.model, [w.encoded for w in batch], runtime.pad_id, every_token=True).logps
            base, mask = padded([w.base for w in batch])
            weights = torch.tensor([w.weight for w in batch], device=logps.device)
            return rltf_loss(logps, base, weights, mask, self.options["kl"])

        return optimise(runtime, experience.items, loss, learning_rate, seed, lambda w: w.encoded)
