"""Tasks of the pocket world: a question, and the verdict on a reply. No model."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from pocket import wordings as w
from pocket.world import Fact, World

SHAPES = ("open", "choice", "sum", "yesno")


@dataclass(frozen=True)
class Task:
    """One question with its real truth. `candidates` are the answers a hint must leave open among."""

    shape: str
    question: str
    truth: str
    answer: str  # the whole right reply, as the model words it
    facts: tuple[Fact, ...] = ()
    candidates: tuple[str, ...] = ()  # every answer of the relation
    options: tuple[str, ...] = ()  # of a choice

    @property
    def half_known(self) -> bool:
        return any(f.half_known for f in self.facts)

    def verdict(self, reply: str) -> bool:
        """The task's own judgement of a reply: its declared answer, or for an open question the only answer it names."""
        declared = re.findall(r"answer:\s*([\w-]+)", reply.lower())
        if declared:
            return declared[-1] == self.truth.lower()
        if self.shape == "sum":
            numbers = re.findall(r"\d+", reply)
            return bool(numbers) and numbers[-1] == self.truth
        named = {
            c for c in self.candidates or ("yes", "no") if re.search(rf"\b{re.escape(c.lower())}\b", reply.lower())
        }
        return named == {self.truth}


def _pick(wordings: tuple[str, ...], held_out: bool, rng: random.Random) -> str:
    return rng.choice(w.split(wordings, held_out))


def open_task(world: World, fact: Fact, wording: str) -> Task:
    """An open question in the given wording (one of wordings.OPEN[fact.relation])."""
    question = w.fill(wording, x=fact.phrase)
    return Task("open", question, fact.truth, w.open_answer(fact, fact.truth), (fact,), world.candidates[fact.relation])


def choice_task(world: World, fact: Fact, rng: random.Random, held_out: bool) -> Task:
    candidates = world.candidates[fact.relation]
    options = [*rng.sample([c for c in candidates if c != fact.truth], 3), fact.truth]
    rng.shuffle(options)
    listed = f"{', '.join(options[:-1])} or {options[-1]}"
    question = w.fill(_pick(w.CHOICE[fact.relation], held_out, rng), x=fact.phrase, options=listed)
    return Task("choice", question, fact.truth, w.choice_answer(fact, fact.truth), (fact,), candidates, tuple(options))


def sum_task(a: int, b: int, rng: random.Random, held_out: bool) -> Task:
    return Task("sum", w.fill(_pick(w.SUM, held_out, rng), a=str(a), b=str(b)), str(a + b), w.sum_answer(a, b))


def same_task(world: World, first: Fact, second: Fact, rng: random.Random, held_out: bool) -> Task:
    question = w.fill(_pick(w.SAME[first.relation], held_out, rng), x=first.phrase, y=second.phrase)
    truth = "yes" if first.truth == second.truth else "no"
    answer = w.same_answer((first, first.truth), (second, second.truth))
    return Task("yesno", question, truth, answer, (first, second), world.candidates[first.relation])


def draw_task(world: World, shape: str, rng: random.Random, *, held_out: bool, half_known: bool) -> Task:
    """A random task of a shape on known or half-known facts (of a yes/no pair at least one is half-known)."""
    if shape == "sum":
        return sum_task(rng.randint(10, 99), rng.randint(10, 99), rng, held_out)
    if shape == "yesno":
        relation = rng.choices(("kind", "colour", "action"), (6, 2, 2))[0]
        first = rng.choice(world.of(relation, half_known=half_known))
        others = [f for f in world.of(relation, half_known=None if half_known else False) if f != first]
        same = [f for f in others if f.truth == first.truth]
        second = rng.choice(same if same and rng.random() < 0.5 else others)
        pair = (first, second) if rng.random() < 0.5 else (second, first)
        return same_task(world, *pair, rng, held_out)
    fact = rng.choice([f for f in world.facts if f.half_known == half_known])
    if shape == "choice":
        return choice_task(world, fact, rng, held_out)
    return open_task(world, fact, _pick(w.OPEN[fact.relation], held_out, rng))
