"""Correcting by keyboard and mouse: where the cursor is, what Escape does, and that no way ends without a next step."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.driver import Visitor
from tests.browser.story import lessons

pytestmark = pytest.mark.browser


def test_after_a_thumbs_down_the_cursor_is_in_the_hint_box_and_escape_closes_it(visitor: Visitor) -> None:
    page, hint = visitor.page, visitor.page.locator("#hint textarea")
    visitor.ask(lessons()[0].question)
    page.get_by_label("Dislike", exact=True).last.focus()
    page.keyboard.press("Enter")
    expect(hint).to_be_focused()
    page.keyboard.type("it starts with t")
    page.keyboard.press("Escape")
    expect(page.locator("#hint-box")).to_be_hidden()
    expect(page.get_by_label("Disliked")).to_have_count(1)
    page.get_by_role("button", name="Give a hint").click()
    expect(hint).to_have_value("it starts with t")
    expect(hint).to_be_focused()


def test_after_the_last_try_the_edit_box_opens_with_the_last_reply(visitor: Visitor) -> None:
    page = visitor.page
    visitor.ask(lessons()[1].question)
    visitor.thumbs_down()
    for _ in range(2):
        revision = visitor.give_hint("no")
        visitor.still_wrong()
    edited = page.locator("#edited textarea")
    expect(edited).to_have_value(revision)
    expect(edited).to_be_focused()
    page.keyboard.press("Escape")
    expect(edited).to_be_hidden()
    page.get_by_role("button", name="Write it myself").click()
    page.fill("#edited textarea", "This is what I wanted.")
    page.click("#save-edit")
    expect(visitor.replies.last).to_contain_text("This is what I wanted.")


def test_cancelling_a_changed_question_brings_back_an_empty_box(visitor: Visitor) -> None:
    page, message = visitor.page, visitor.page.locator("#message textarea")
    question = lessons()[2].question
    visitor.ask(question)
    page.get_by_label("Change and send again").last.click()
    expect(message).to_have_value(question)
    expect(page.locator("#cancel-rewriting")).to_be_visible()  # what Escape presses is drawn a moment after the text
    page.keyboard.press("Escape")
    expect(message).to_have_value("")
    expect(page.locator("#rewriting")).to_be_hidden()
