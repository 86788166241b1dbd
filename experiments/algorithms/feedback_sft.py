"""Feedback-SFT (baseline of arXiv 2605.07977): the same self-play as spear, L = L_win alone."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from experiments.algorithms.base import Experience, Trained
from experiments.algorithms.spear import Spear, Traces
from experiments.seat import Seat


class FeedbackSft(Spear):
    name: ClassVar[str] = "feedback_sft"

    def train(self, seat: Seat, experience: Experience[Traces], learning_rate: float, seed: int) -> Trained:
        return super().train(seat, replace(experience, items=Traces(experience.items.wins, [])), learning_rate, seed)
