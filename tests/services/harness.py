"""What the service tests do at the bench: ask, correct, ask again."""

from __future__ import annotations

from pocket.tasks import Task, open_task
from pocket.wordings import OPEN, split
from pocket.world import load_world
from services.app import AppServices
from services.views import MessageView

WORLD = load_world()


def ask(app: AppServices, text: str, conversation_id: str | None = None, *, learn: bool = True) -> MessageView:
    """The whole reply to a question, in a new conversation unless one is named."""
    conversation_id = conversation_id or app.chat.new_conversation(learn).id
    return list(app.chat.reply(conversation_id, text))[-1]


def wrong_task(app: AppServices, skip: int = 0, relation: str = "kind") -> Task:
    """A half-known fact that the bench's model gets wrong now; `skip` leaves out the first ones found."""
    for fact in WORLD.of(relation, half_known=True):
        task = open_task(WORLD, fact, OPEN[fact.relation][0])
        if not task.verdict(ask(app, task.question, learn=False).text):
            if not skip:
                return task
            skip -= 1
    raise AssertionError("the model knows every half-known fact")


def other_wordings(task: Task) -> list[Task]:
    fact = task.facts[0]
    return [open_task(WORLD, fact, wording) for wording in split(OPEN[fact.relation], held_out=True)]


def correct(
    app: AppServices, task: Task, conversation_id: str | None = None, *, learn: bool = True
) -> tuple[MessageView, MessageView]:
    """Ask, hint with the whole answer, confirm. Returns the wrong reply and the confirmed revision."""
    reply = ask(app, task.question, conversation_id, learn=learn)
    revision = list(app.chat.revise(reply.id, f"no, {task.truth}"))[-1]
    assert task.verdict(revision.text), f"the revision of {task.question!r} was {revision.text!r}"
    app.feedback.better(revision.id)
    return reply, revision
