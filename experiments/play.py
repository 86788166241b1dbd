"""Feedback-guided self-play (arXiv 2605.07977): try, be judged, revise with a partial hint. No training.

A round's episodes are what every algorithm is counted by: samples needing revision, successful revisions.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from experiments.client_runtime import ClientRuntime, Reply
from experiments.tasks.base import Example, Hinter
from federation.flower.streams import Purpose, stream_seed
from spear_core.models.prompts import revision_messages


@dataclass(frozen=True)
class ClientStreams:
    """Where in a run a client is: its streams hang on nothing else."""

    seed: int
    round: int
    client: int

    def rng(self, purpose: Purpose) -> random.Random:
        return random.Random(self.stream(purpose))

    def stream(self, purpose: Purpose, *more: int) -> int:
        return stream_seed(self.seed, purpose, self.round, self.client, *more)


@dataclass
class Episode:
    """One example with its replies, first to last, and what the user said of each (with label noise: not always true)."""

    example: Example
    replies: list[Reply] = field(default_factory=list)
    accepted: list[bool] = field(default_factory=list)
    hints: list[str | None] = field(default_factory=list)  # what was said about each reply that was not accepted

    @property
    def solved(self) -> bool:
        return self.accepted[-1]

    @property
    def revised(self) -> bool:
        """The first reply was refused and a later one accepted."""
        return self.solved and len(self.accepted) > 1


class User:
    """The simulated user: the task's verdict, flipped in `label_noise` of the cases, and its hints."""

    def __init__(self, runtime: ClientRuntime, streams: ClientStreams) -> None:
        self.runtime = runtime
        self.noise = streams.rng("noise")
        self.rng = streams.rng("hints")

    def accepts(self, example: Example, reply: str) -> bool:
        right = self.runtime.task.right(example, reply)
        return not right if self.noise.random() < self.runtime.play.label_noise else right

    def hinter(self, example: Example) -> Hinter:
        return self.runtime.task.hinter(example, self.rng)

    def hint(self, example: Example, hinter: Hinter, reply: str) -> str | None:
        match self.runtime.play.hints:
            case "none":
                return None
            case "full":
                return f"the answer is {example.answer}"
            case _:
                return hinter(reply)


def self_play(
    runtime: ClientRuntime, examples: Sequence[Example], streams: ClientStreams, num_revisions: int | None = None
) -> list[Episode]:
    """Try each example once, and revise at most `num_revisions` times (the config's, unless given)."""
    user = User(runtime, streams)
    episodes = [Episode(e) for e in examples]
    hinters: dict[int, Hinter] = {}
    most = runtime.config.num_revisions if num_revisions is None else num_revisions
    for turn in range(most + 1):
        open_ones = [i for i, e in enumerate(episodes) if not (e.accepted and e.accepted[-1])]
        prompts = []
        for i in open_ones:
            e = episodes[i]
            if turn:
                hinters.setdefault(i, user.hinter(e.example))
                e.hints.append(user.hint(e.example, hinters[i], e.replies[-1].text))
            attempts = [(r.text, h) for r, h in zip(e.replies, e.hints, strict=True)]
            prompts.append(revision_messages(e.example.prompt, attempts, runtime.loaded.settings))
        for i, (reply,) in zip(open_ones, runtime.replies(prompts, streams.stream("play", turn)), strict=True):
            episodes[i].replies.append(reply)
            episodes[i].accepted.append(user.accepts(episodes[i].example, reply.text))
    return episodes
