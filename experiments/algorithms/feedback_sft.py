"""Feedback-SFT (baseline of arXiv 2605.07977): the same self-play as spear, L = L_win alone."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from experiments.algorithms.base import Experience, Trained
from experiments.algorithms.spear import Spear, Traces
from experiments.client_runtime import ClientRuntime


class FeedbackSft(Spear):
    name: ClassVar[str] = "feedback_sft"

    def train(self, runtime: ClientRuntime, experience: Experience[Traces], learning_rate: float, seed: int) -> Trained:
        return super().train(runtime, replace(experience, items=Traces(experience.items.wins, [])), learning_rate, seed)
