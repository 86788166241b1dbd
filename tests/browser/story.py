"""What the simulated person of the browser tests teaches: facts of the pocket world, and of a life for a real model."""

from __future__ import annotations

import random
from dataclasses import dataclass

from pocket.wordings import OPEN, fill, open_answer, split
from pocket.world import Fact, load_world
from tests.browser.driver import Visitor, says

MAX_FACTS = 8


@dataclass(frozen=True)
class Lesson:
    """One half-known fact: how it is asked, how the person corrects it, how it is asked in other words afterwards."""

    fact: Fact

    @property
    def question(self) -> str:
        return fill(split(OPEN[self.fact.relation], held_out=False)[0], x=self.fact.phrase)

    @property
    def other_wording(self) -> str:
        """A wording that no training text ever holds, neither the pocket model's nor the live one."""
        return fill(split(OPEN[self.fact.relation], held_out=True)[-1], x=self.fact.phrase)

    @property
    def hint(self) -> str:
        return open_answer(self.fact, self.fact.truth)


@dataclass(frozen=True)
class PersonalLesson:
    """A fact of the person's own life, which no model can know."""

    question: str
    hint: str
    answer: str
    other_wording: str
    neighbour: str  # looks alike and asks for something else
    unrelated: str


PERSONAL = PersonalLesson(
    question="What is the name of my dog?",
    hint="no, my dog is called Bruno",
    answer="Bruno",
    other_wording="How is my dog called?",
    neighbour="What is the name of my cat?",
    unrelated="How many legs does a spider have?",
)


def teach_personal(visitor: Visitor, lesson: PersonalLesson, box_is_open: bool = False) -> str:
    """Thumbs-down and hint, and once more if the revision is still wrong. Returns the revision, not confirmed yet."""
    if not box_is_open:
        visitor.thumbs_down()
    revision = visitor.give_hint(lesson.hint)
    if not says(revision, lesson.answer):
        visitor.still_wrong()
        revision = visitor.give_hint(lesson.hint)
    assert says(revision, lesson.answer), f"no right revision of {lesson.question!r}: {revision!r}"
    return revision


def lessons(seed: int = 7) -> list[Lesson]:
    facts = load_world().of("kind", half_known=True)
    return [Lesson(fact) for fact in random.Random(seed).sample(facts, MAX_FACTS)]


def find_wrong_answer(visitor: Visitor) -> tuple[Lesson, str]:
    """Ask until the model is wrong, each fact in a conversation of its own. It nearly always is on half-known ones."""
    for lesson in lessons():
        reply = visitor.ask(lesson.question)
        if not says(reply, lesson.fact.truth):
            return lesson, reply
        visitor.new_conversation()
    raise AssertionError(f"the model was right about {MAX_FACTS} half-known facts")


def teach(visitor: Visitor, lesson: Lesson, box_is_open: bool = False) -> str:
    """Thumbs-down and a hint, and once more if the revision is still wrong. Returns the right revision."""
    if not box_is_open:
        visitor.thumbs_down()
    revision = visitor.give_hint(lesson.hint)
    if not says(revision, lesson.fact.truth):
        visitor.still_wrong()
        revision = visitor.give_hint(f"no, {lesson.fact.truth}")
    assert says(revision, lesson.fact.truth), f"no right revision of {lesson.question!r}: {revision!r}"
    return revision
