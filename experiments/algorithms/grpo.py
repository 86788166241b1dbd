"""GRPO (Shao et al. 2024, arXiv 2402.03300, eq. 3): G samples a prompt, no hints.

L = -mean_i mean_t [ min(r A, clip(r, 1 - eps, 1 + eps) A) - beta * KL(policy || base) ],  r = pi / pi_old,
A = (reward - mean) / std within the group. The minimum is taken for either sign of A (the published code of
arXiv 2605.07977 takes the maximum for negative A, which is not the standard form).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from experiments.algorithms.base import Algorithm, Experience, Trained, optimise
from experiments.algorithms.groups import group_advantages, kl_estimate, sequence_mean
from experiments.client_runtime import ClientRuntime, padded
from experiments.play import ClientStreams, Episode, User
from experiments.tasks.base import Example
from spear_core.training.scoring import score
from spear_core.training.traces import Encoded


@dataclass(frozen=True)
class Sampled:
    """One sample with its advantage, and the log-probabilities of its tokens before training and under the base."""

    encoded: Encoded
    advantage: float
    old: Tensor
    base: Tensor


def grpo_loss(
    logps: Tensor, old: Tensor, base: Tensor, advantages: Tensor, mask: Tensor, clip: float, kl: float
) -> Tensor:
    """logps, old, base, mask: (B, C); advantages: (B,)."""
    ratio = torch.exp(logps - old)
    advantage = advantages.unsqueeze(1)
    gain = torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return sequence_mean(kl * kl_estimate(logps, base) - gain, mask)


class Grpo(Algorithm[list[Sampled]]):
    name: ClassVar[str] = "grpo"
    defaults = {"kl": 0.02, "clip": 0.2}

    def gather(
        self, runtime: ClientRuntime, examples: Sequence[Example], streams: ClientStreams
    ) -> Experience[list[Sampled]]:
        user = User(runtime, streams)
        samples = runtime.replies([e.prompt for e in examples], streams.stream("play", 0), samples=runtime.play.group)
        accepted = [[user.accepts(e, r.text) for r in row] for e, row in zip(examples, samples, strict=True)]
        advantages = group_advantages(torch.tensor(accepted, dtype=torch.float32))  # (P, G)
        encoded = [r.encoded for row in samples for r in row]
        old, base = runtime.logps(encoded), runtime.base_logps(encoded)
        items = [Sampled(*row) for row in zip(encoded, advantages.flatten().tolist(), old, base, strict=True)]
        # counted like the others: by each prompt's first sample
        episodes = [Episode(e, [row[0]], [a[0]]) for e, row, a in zip(examples, samples, accepted, strict=True)]
        return Experience(episodes, items, sum(map(sum, accepted)))

    def train(
        self, runtime: ClientRuntime, experience: Experience[list[Sampled]], learning_rate: float, seed: int
    ) -> Trained:
        def loss(batch: Sequence[Sampled]) -> Tensor:
            logps = score(runtime.model, [s.encoded for s in batch], runtime.pad_id, every_token=True).logps
            (old, mask), (base, _) = padded([s.old for s in batch]), padded([s.base for s in batch])
            advantages = torch.tensor([s.advantage for s in batch], device=logps.device)
            return grpo_loss(logps, old, base, advantages, mask, self.options["clip"], self.options["kl"])

        return optimise(runtime, experience.items, loss, learning_rate, seed, lambda s: s.encoded)
