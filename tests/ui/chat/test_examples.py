"""The questions on the empty page."""

from __future__ import annotations

from dataclasses import replace

from pocket.world import load_world
from services.app import AppServices
from services.views import ModelView
from ui.chat.drafts import Drafts
from ui.chat.examples import MAX_EXAMPLES, POCKET_MODEL, TEACHABLE, example_questions, invitation
from ui.chat.handlers import SHOWN, ChatHandlers

OWN = tuple(f"Question {i}?" for i in range(8))


def test_every_teachable_question_is_one_the_pocket_model_has_no_belief_about() -> None:
    assert all(load_world().fact(key).half_known for key in TEACHABLE)


def test_the_pocket_model_shows_known_and_teachable_questions() -> None:
    shown = example_questions(ModelView(POCKET_MODEL, 1, OWN))
    assert len(shown) == len(set(shown)) == MAX_EXAMPLES
    assert len(set(shown) & set(OWN)) == MAX_EXAMPLES // 2


def test_another_model_shows_its_own_questions() -> None:
    other = ModelView("another-model", 1, OWN[:3])
    assert example_questions(other) == list(OWN[:3])
    assert "small" not in invitation(other)


def test_a_page_loaded_after_a_switch_shows_the_questions_of_the_model_that_answers_now(app: AppServices) -> None:
    app.model = replace(app.model, examples=OWN)
    chat, *rest = ChatHandlers(app).restore(None, "", 50, Drafts(), "", "")  # type: ignore[arg-type]
    assert all(question in chat["invitation"] for question in OWN[:MAX_EXAMPLES])
    assert "rows" not in chat, "a quick visitor may have asked something by now"
    assert len(rest) == SHOWN - 1
