"""On-policy self-distillation (arXiv 2601.18734): the model that is told the answer teaches the model that is not.

L = mean over the tokens of the student's own reply of KL(teacher || student), both at temperature T. The teacher is the
same model with the same adapter, shown privileged context in the prompt, and gets no gradient. The published loss is not
multiplied by T^2, and neither is this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from experiments.algorithms.base import Algorithm, Experience, Trained, optimise
from experiments.algorithms.groups import sequence_mean
from experiments.client_runtime import ClientRuntime
from experiments.play import ClientStreams, self_play
from experiments.tasks.base import Example
from spear_core.training.scoring import Predictions, predict
from spear_core.training.traces import Encoded


@dataclass(frozen=True)
class Taught:
    """The student's reply on its own prompt, and the same reply on the prompt that the teacher sees."""

    student: Encoded
    teacher: Encoded


def distillation_loss(teacher: Predictions, student: Predictions, temperature: float) -> Tensor:
    """KL(teacher || student) at a temperature; mean over each reply's tokens, then over the replies."""
    hot_teacher, hot_student = (replace(p, values=p.values / temperature) for p in (teacher, student))
    kl, _ = hot_student.kl_from(hot_teacher.as_base())  # (N,)
    values = student.packed.unflatten(kl, student.shape)
    return sequence_mean(values, student.packed.unflatten(torch.ones_like(kl), student.shape))


class Opsd(Algorithm[list[Taught]]):
    name: ClassVar[str] = "opsd"
    defaults = {"temperature": 2.0}

    def gather(
        self, runtime: ClientRuntime, examples: Sequence[Example], streams: ClientStreams
    ) -> Experience[list[Taught]]:
        episodes = self_play(runtime, examples, streams, num_revisions=0)
        items = []
        for e in episodes:
            told = f"{e.example.question}\n({runtime.task.privileged(e.example)})"
            prompt = runtime.encode([{"role": "user", "content": told}])
            items.append(Taught(e.replies[0].encoded, replace(e.replies[0].encoded, prompt_ids=prompt)))
        return Experience(episodes, items, len(items))

    def train(
        self, runtime: ClientRuntime, experience: Experience[list[Taught]], learning_rate: float, seed: int
    ) -> Trained:
        def loss(batch: Sequence[Taught]) -> Tensor:
            with torch.no_grad():
                teacher = predict(runtime.model, [t.teacher for t in batch], runtime.pad_id, every_token=True)
            student = predict(runtime.model, [t.student for t in batch], runtime.pad_id, every_token=True)
            return distillation_loss(teacher, student, self.options["temperature"])

        return optimise(runtime, experience.items, loss, learning_rate, seed, lambda t: t.student)
