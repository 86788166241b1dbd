"""The scope of a version that peers had a part in: what was taught here comes before what they were taught."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spear_core.inference.pointing_back import leans_on_history
from spear_core.inference.scope import Covers, Scope, Taught

Features = Callable[[Sequence[str]], Tensor]
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class JointScope:
    """Two scopes, the own one first, so that what peers send changes nothing of what is answered as it was taught here.

    In one scope of both, many questions like an own one would push that out of the nearest ones, which alone are looked at.
    """

    def __init__(self, own: Scope, peers: Scope) -> None:
        self.own, self._peers = own, peers

    def taught_for(self, question: str) -> Taught | None:
        """As `Scope.taught_for`."""
        return self.own.taught_for(question) or self._peers.taught_for(question)

    def was_taught(self, question: str, reply: str) -> bool:
        """As `Scope.was_taught`."""
        return self.own.was_taught(question, reply) or self._peers.was_taught(question, reply)

    def covers_each(self, questions: Sequence[str]) -> list[bool]:
        """As `Scope.covers_each`."""
        covered = dict(zip(questions, self.own.covers_each(questions), strict=True))
        others = [question for question, is_own in covered.items() if not is_own]
        covered.update(zip(others, self._peers.covers_each(others), strict=True))
        return [covered[question] for question in questions]


@dataclass(frozen=True)
class Coverage:
    """Of questions: will an adapter answer each (`covers`), and will it for something that was taught here (`own`)?"""

    covers: Covers
    own: Covers

    def __call__(self, questions: Sequence[str]) -> list[bool]:
        return self.covers(questions)


def taught_to_peers(questions: Iterable[str], own: Collection[str]) -> list[Taught]:
    """Peers' questions without those that are `own` too. There is no answer: the peers' adapter has it.

    One that leaned on what was said came with the question before it, as one text (`asked_in`): its last sentence tells.
    """
    return [
        Taught(
            question,
            "",
            None if leans_on_history(_last_sentence(question)) else [{"role": "user", "content": question}],
        )
        for question in questions
        if question not in own
    ]


def _last_sentence(text: str) -> str:
    return _SENTENCE_END.split(text.strip())[-1]


def with_known(features: Features, known: Mapping[str, Tensor]) -> Features:
    """The features, of questions in `known` without computing them again."""

    def of(questions: Sequence[str]) -> Tensor:
        return torch.stack([known[q] if q in known else features([q])[0] for q in questions])

    return of
