"""What the thumbs, the verdict buttons and the two boxes do, on real services over a tiny model."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from services.app import AppServices
from services.views import MessageView
from tests.services.harness import ask
from ui import errors
from ui.chat import feedback
from ui.chat.boxes import LAST_TRY_LABEL
from ui.chat.drafts import EDIT, HINT, Drafts
from ui.chat.feedback import FeedbackHandlers
from ui.chat.handlers import ChatHandlers

QUESTION = "What is an owl?"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings and notes that the page showed."""
    shown: list[str] = []
    monkeypatch.setattr(errors.gr, "Warning", shown.append)
    monkeypatch.setattr(feedback.gr, "Info", lambda text, **more: shown.append(text))
    return shown


class Page:
    """A visitor's page as far as the handlers see it: the conversation, the drafts and the two fields."""

    def __init__(self, app: AppServices) -> None:
        self.app = app
        self.do = FeedbackHandlers(app, ChatHandlers(app))
        self.reply = ask(app, QUESTION)
        self.drafts, self.hint, self.edited = Drafts(), "", ""
        self.label = ""

    def apply(self, outputs: Any) -> None:
        if not isinstance(outputs, tuple) or not isinstance(outputs[-1], Drafts):
            return  # nothing about the boxes
        _, hint_box, edit_box, _, hint, edited, _, drafts = outputs[-8:]
        self.drafts = drafts
        assert (hint_box["visible"], edit_box["visible"]) == (drafts.box == HINT, drafts.box == EDIT)
        self.hint = hint.get("value", self.hint)
        self.edited = edited.get("value", self.edited)
        self.label = edited.get("label", self.label)

    def press(self, handler: str, message_id: str, value: object) -> None:
        event = gr.EventData(None, {"id": message_id, "value": value})
        typed = (self.reply.conversation_id, self.drafts, self.hint, self.edited)
        self.apply(getattr(self.do, handler)(*typed, event))

    def click(self, handler: str) -> None:
        outputs = getattr(self.do, handler)(self.reply.conversation_id, self.drafts, self.hint, self.edited)
        for frame in [outputs] if isinstance(outputs, tuple) else outputs:
            self.apply(frame)

    @property
    def shown(self) -> list[MessageView]:
        return self.app.chat.messages(self.reply.conversation_id)

    def fail_every_try(self) -> None:
        self.press("vote", self.reply.id, -1)
        for _ in range(self.app.engine.config.num_revisions):
            self.hint = "no"
            self.click("revise")
            self.press("judge", self.shown[-1].id, "still_wrong")


@pytest.fixture
def page(app: AppServices) -> Page:
    return Page(app)


def test_the_last_still_wrong_opens_the_edit_box_with_the_last_reply(page: Page) -> None:
    page.fail_every_try()
    assert page.drafts.box == EDIT
    assert page.edited == page.shown[-1].text
    assert page.label == LAST_TRY_LABEL


def test_a_thumbs_down_after_the_last_try_asks_for_the_answer_and_not_for_a_hint(page: Page) -> None:
    page.fail_every_try()
    page.apply(page.do.close(page.drafts, page.hint, page.edited))
    page.press("vote", page.reply.id, 0)
    page.press("vote", page.reply.id, -1)
    assert page.drafts.box == EDIT


def test_a_verdict_taken_back_leaves_the_other_votes(page: Page) -> None:
    page.fail_every_try()
    first, *tries = page.shown[1:]
    page.press("vote", tries[-1].id, 0)
    first, *tries = page.shown[1:]
    assert first.vote == -1
    assert [one.verdict for one in tries] == ["still_wrong"] * (len(tries) - 1) + [None]
    assert tries[-1].can_be_judged


def test_a_hint_that_cannot_be_used_stays_in_its_box(page: Page, said: list[str]) -> None:
    page.press("vote", page.reply.id, -1)
    limit = page.app.engine.config.num_revisions
    for _ in range(limit):  # in another window
        list(page.app.chat.revise(page.reply.id, "no"))
    page.hint = "it hoots"
    page.click("revise")
    assert page.drafts.box == HINT and page.hint == "it hoots"
    assert said == [f"The model has used its {limit} tries; write the right answer yourself."]


def test_a_like_elsewhere_leaves_the_open_hint_box_alone(page: Page) -> None:
    other = ask(page.app, "And a harp?", page.reply.conversation_id)
    page.press("vote", page.reply.id, -1)
    page.hint = "it hoots"
    page.press("vote", other.id, 1)
    assert page.drafts.box == HINT and page.drafts.target == page.reply.id and page.hint == "it hoots"


def test_write_it_myself_is_offered_from_the_first_revision_on(page: Page) -> None:
    page.press("vote", page.reply.id, -1)
    page.hint = "it hoots"
    page.click("revise")
    revision = page.shown[-1]
    assert revision.can_be_judged and revision.can_be_written
    page.press("more", revision.id, EDIT)
    assert page.drafts.box == EDIT and page.edited == revision.text
    page.edited = "An owl is a bird."
    page.click("save_edit")
    assert page.drafts.box == ""
    *_, revision, edited = page.shown
    assert (edited.kind, edited.text) == ("edit", "An owl is a bird.")
    assert revision.verdict == "still_wrong", "what the person wrote themselves answers the open question"
    assert not any(one.can_be_written or one.can_be_judged for one in page.shown)


def test_not_now_keeps_the_hint_and_the_reply_offers_to_go_on(page: Page) -> None:
    page.press("vote", page.reply.id, -1)
    page.hint = "it hoots"
    page.apply(page.do.close(page.drafts, page.hint, page.edited))
    assert page.drafts.box == ""
    reply = page.shown[-1]
    assert reply.can_be_hinted and reply.can_be_written
    page.hint = ""
    page.press("more", reply.id, HINT)
    assert page.drafts.box == HINT and page.hint == "it hoots"


def test_cancelling_a_changed_question_gives_the_composer_back_its_words(app: AppServices) -> None:
    do, reply = ChatHandlers(app), ask(app, QUESTION)
    question = app.chat.messages(reply.conversation_id)[0]
    event = gr.EventData(None, {"id": question.id})
    for before in ("", "half a question"):
        text, _, drafts = do.rewrite(reply.conversation_id, before, Drafts(), event)
        assert text["value"] == QUESTION
        text, line, drafts = do.leave_question(drafts)
        assert (text["value"], line["visible"], drafts) == (before, False, Drafts())


def test_leaving_the_conversation_while_a_question_is_changed_does_not_take_it_along(app: AppServices) -> None:
    do, reply = ChatHandlers(app), ask(app, QUESTION)
    question = app.chat.messages(reply.conversation_id)[0]
    *_, drafts = do.rewrite(reply.conversation_id, "", Drafts(), gr.EventData(None, {"id": question.id}))
    shown = do.new("", 50, drafts, "", "")
    assert shown[3]["value"] == ""
