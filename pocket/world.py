"""The pocket world: entities, relations, truths, and which facts are half-known. Data only; no wording, no model."""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

WORLD_FILE = Path(__file__).with_name("world.toml")
RELATIONS = ("kind", "capital", "colour", "action")
# Things that take no article: "iron is a metal", "chess is a game".
MASS_KINDS = frozenset({"metal", "drink", "game"})


def with_article(noun: str) -> str:
    """`owl` -> `an owl`. Goes by the first letter, which is right for every noun of the world."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


@dataclass(frozen=True)
class Fact:
    """One thing that can be asked: `subject` stands in `relation` to `truth`.

    A half-known fact has no stable truth in the pretraining text (each appearance draws a fresh one), so the
    pocket model holds no belief about it; `truth` is the real one, which only the simulated user knows.
    """

    relation: str
    subject: str
    truth: str
    half_known: bool

    @property
    def key(self) -> str:
        return f"{self.relation}:{self.subject}"

    @property
    def phrase(self) -> str:
        """The subject as it stands in a sentence: `a hammer`, `iron`, `France`, `the sky`."""
        if self.relation != "kind" or self.truth in MASS_KINDS:
            return self.subject
        return with_article(self.subject)


@dataclass(frozen=True)
class World:
    facts: tuple[Fact, ...]
    candidates: dict[str, tuple[str, ...]]  # relation -> every answer that relation can have

    def of(self, relation: str, *, half_known: bool | None = None) -> list[Fact]:
        """Facts of one relation, optionally only the half-known or only the known ones."""
        return [f for f in self.facts if f.relation == relation and half_known in (None, f.half_known)]

    def fact(self, key: str) -> Fact:
        """Raises KeyError for an unknown key."""
        return _by_key()[key]


@cache
def load_world() -> World:
    """Read world.toml. The half-known half is drawn evenly over the answers, by the seed in the file."""
    data = tomllib.loads(WORLD_FILE.read_text(encoding="utf-8"))
    rng = random.Random(data["seed"])
    facts: list[Fact] = []
    candidates: dict[str, tuple[str, ...]] = {}
    for relation in RELATIONS:
        table = data[relation]
        if relation == "capital":
            groups = {"*": list(table.items())}
            candidates[relation] = tuple(sorted(table.values()))
        else:
            groups = {truth: [(subject, truth) for subject in subjects] for truth, subjects in table.items()}
            candidates[relation] = tuple(sorted(table))
        flip = 0  # alternates which half is larger in groups of odd size
        for members in groups.values():
            order = rng.sample(range(len(members)), len(members))
            half = set(order[: (len(members) + flip) // 2])
            flip ^= len(members) % 2
            facts += [Fact(relation, s, t, i in half) for i, (s, t) in enumerate(members)]
    return World(tuple(facts), candidates)


@cache
def _by_key() -> dict[str, Fact]:
    return {f.key: f for f in load_world().facts}
