"""SPEAR (arXiv 2605.07977): L = lambda_win * L_win + lambda_lose * L_lose on the original prompts.

L_win: mean cross-entropy of accepted replies. L_lose: unlikelihood of refused first replies, with confidence 1.0 where a
revision was accepted and 0.5 where none was. The losses and the steps are those of spear_core, as in the app.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from experiments.algorithms.base import Algorithm, Experience, Trained
from experiments.client_runtime import ClientRuntime, Reply
from experiments.play import ClientStreams, self_play
from experiments.tasks.base import Example
from spear_core.models.prompts import template_token_ids
from spear_core.training.losses import distinguishing_mask, tail_mask
from spear_core.training.material import Material
from spear_core.training.traces import Encoded
from spear_core.training.trainer import Trainer

UNRESOLVED_CONFIDENCE = 0.5


@dataclass(frozen=True)
class Traces:
    wins: list[Encoded]
    loses: list[Encoded]


class Spear(Algorithm[Traces]):
    name: ClassVar[str] = "spear"

    def gather(self, runtime: ClientRuntime, examples: Sequence[Example], streams: ClientStreams) -> Experience[Traces]:
        episodes = self_play(runtime, examples, streams)
        wins: list[Encoded] = []
        loses: list[Encoded] = []
        for e in episodes:
            first, last = e.replies[0], e.replies[-1]
            win = on_prompt(first, last) if e.solved else None
            if win is not None:
                wins.append(win)
            if not e.accepted[0]:
                loses.append(self._lose(runtime, first, win))
        return Experience(episodes, Traces(wins, loses), len(wins))

    def _lose(self, runtime: ClientRuntime, first: Reply, win: Encoded | None) -> Encoded:
        ids = first.encoded.completion_ids
        mask = tail_mask(ids, runtime.config.tail_tokens, runtime.end_ids, runtime.protected)
        if win is not None and runtime.config.lose_mask == "distinguishing":
            differs = distinguishing_mask(ids, win.completion_ids, runtime.end_ids)
            mask = [m and d for m, d in zip(mask, differs, strict=True)]
        return replace(first.encoded, mask=tuple(mask), confidence=1.0 if win else UNRESOLVED_CONFIDENCE)

    def train(self, runtime: ClientRuntime, experience: Experience[Traces], learning_rate: float, seed: int) -> Trained:
        trainer = Trainer(runtime.model, runtime.config, runtime.pad_id, template_token_ids(runtime.loaded.tokenizer))
        material = Material(experience.items.wins, experience.items.loses)
        report = trainer.train(material, seed, learning_rate=learning_rate)
        cfg = runtime.config
        return Trained(report.steps, cfg.lambda_win * report.win_loss + cfg.lambda_lose * report.lose_loss)


def on_prompt(first: Reply, answer: Reply) -> Encoded:
    """A revision as an answer to the original prompt: the hint is in no training context."""
    return replace(answer.encoded, prompt_ids=first.encoded.prompt_ids)
