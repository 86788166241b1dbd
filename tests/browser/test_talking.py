"""Correcting by talking: the reply to "no, it's ..." is the revision, and one quiet line asks whether to learn it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.driver import Visitor, says
from tests.browser.story import find_wrong_answer

pytestmark = pytest.mark.browser


def test_a_correction_in_the_chat_is_learned_after_a_yes_and_not_before(visitor: Visitor) -> None:
    page, line = visitor.page, visitor.page.locator("#chat .learn")
    lesson, _ = find_wrong_answer(visitor)
    reply = visitor.ask(f"no, it's {lesson.fact.truth}")
    assert says(reply, lesson.fact.truth), reply
    expect(line).to_have_text("Learn this?YesNo")
    assert visitor.card.get_attribute("data-phase") == "idle"
    visitor.open()  # the question waits through a reload
    expect(line).to_have_text("Learn this?YesNo")
    page.get_by_label("Yes, learn this").click()
    expect(line).to_have_text("You confirmed this correction.")
    visitor.wait_for_phase("live")
    visitor.new_conversation()
    assert says(visitor.ask(lesson.question), lesson.fact.truth)


def test_after_a_no_the_line_is_gone_and_nothing_is_learned(visitor: Visitor) -> None:
    page, line = visitor.page, visitor.page.locator("#chat .learn")
    learned = page.request.get(f"{visitor.url}/v1/learned").text()
    visitor.ask("What is the capital of Kenya?")
    visitor.ask("no, it's Nairobi")
    page.get_by_label("No, do not learn this").click()
    expect(line).to_have_count(0)
    visitor.open()
    expect(visitor.said).to_have_count(2)
    expect(line).to_have_count(0)
    assert page.request.get(f"{visitor.url}/v1/learned").text() == learned


def test_whoever_chose_to_learn_without_asking_is_not_asked(visitor: Visitor) -> None:
    page, line = visitor.page, visitor.page.locator("#chat .learn")
    visitor.open_settings()
    page.locator("#learn-unasked input").check()
    page.wait_for_timeout(500)
    visitor.open()
    visitor.open_settings()
    expect(page.locator("#learn-unasked input")).to_be_checked()
    page.locator("#no-learning input").check()  # what is taught here must not train in this test
    visitor.ask("What is the capital of Kenya?")
    visitor.ask("no, it's Nairobi")
    expect(line).to_have_text("You confirmed this correction.")
    page.locator("#learn-unasked input").uncheck()
