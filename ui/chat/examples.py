"""The example questions of the empty page: some the model knows, and some worth correcting."""

from __future__ import annotations

from html import escape

from pocket.wordings import OPEN, fill
from pocket.world import load_world
from services.views import ModelView

POCKET_MODEL = "pocket-model"
MAX_EXAMPLES = 6
# Half-known to the pocket model: it holds no stable answer, so a newcomer soon has something to correct.
TEACHABLE = ("kind:bicycle", "capital:Finland", "action:a fox")
INVITATION = (
    "When an answer is wrong, press thumbs-down and say what should change. The model learns it while you watch."
)
POCKET_INVITATION = f"It is a very small model, and some of these it gets wrong. {INVITATION}"


def example_questions(model: ModelView) -> list[str]:
    """The model's own examples; for the pocket model half of them are questions it is likely to get wrong."""
    if model.name != POCKET_MODEL:
        return list(model.examples[:MAX_EXAMPLES])
    half_known = [load_world().fact(key) for key in TEACHABLE]
    teachable = [fill(OPEN[fact.relation][0], x=fact.phrase) for fact in half_known]
    known = [example for example in model.examples if example not in teachable][: MAX_EXAMPLES - len(teachable)]
    mixed = [question for pair in zip(teachable, known, strict=False) for question in pair]
    return mixed + [question for question in known if question not in mixed]


def invitation(model: ModelView) -> str:
    return POCKET_INVITATION if model.name == POCKET_MODEL else INVITATION


def invitation_html(model: ModelView) -> str:
    """What an empty conversation says: an invitation, and questions to begin with."""
    examples = "".join(
        f'<button type="button" class="example" data-do="example" data-text="{escape(q)}">{escape(q)}</button>'
        for q in example_questions(model)
    )
    return (
        f'<h2>What would you like to know?</h2><p>{escape(invitation(model))}</p><div class="examples">{examples}</div>'
    )
