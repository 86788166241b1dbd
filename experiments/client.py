"""One client's part of a round: take examples, play, train, hand back the adapter and what was counted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from experiments.algorithms import Algorithm
from experiments.client_runtime import ClientRuntime
from experiments.play import ClientStreams
from experiments.tasks.base import Example
from federation.flower.strategy import Contributed


@dataclass(frozen=True)
class Counts:
    """What one client did in one round.

    Seconds are of processor time where the model is on the CPU: with one thread, what a core of its own would take, however
    busy the machine is. On a GPU they are of the wall clock.
    """

    prompts: int
    needed_revision: int  # first replies that were wrong, by the task's own verdict
    revised: int  # of these, how many a revision put right
    weight: int
    steps: int
    loss: float
    generated_tokens: int
    play_seconds: float
    train_seconds: float


@dataclass(frozen=True)
class ClientResult:
    update: Contributed
    counts: Counts


def client_round(
    runtime: ClientRuntime,
    algorithm: Algorithm[Any],
    adapter: Mapping[str, Tensor],
    shard: Sequence[Example],
    streams: ClientStreams,
    learning_rate: float,
) -> ClientResult:
    """Depends on its arguments alone, so that any process may do it."""
    runtime.load(dict(adapter))
    rng = streams.rng("examples")
    examples = rng.sample(list(shard), min(runtime.play.rollouts, len(shard)))
    clock = time.process_time if runtime.model.device.type == "cpu" else time.perf_counter
    tokens, began = runtime.generated_tokens, clock()
    experience = algorithm.gather(runtime, examples, streams)
    played = clock()
    trained = algorithm.train(runtime, experience, learning_rate, streams.stream("training"))
    finished = clock()
    needed = [e for e in experience.episodes if not runtime.task.right(e.example, e.replies[0].text)]
    counts = Counts(
        prompts=len(experience.episodes),
        needed_revision=len(needed),
        revised=sum(runtime.task.right(e.example, e.replies[-1].text) for e in needed),
        weight=experience.weight,
        steps=trained.steps,
        loss=trained.loss,
        generated_tokens=runtime.generated_tokens - tokens,
        play_seconds=played - began,
        train_seconds=finished - played,
    )
    return ClientResult(Contributed(streams.client, runtime.state(), experience.weight), counts)
