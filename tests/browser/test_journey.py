"""The whole loop in a browser on the real app: wrong, hint, revision, Better, live, right; and after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.driver import App, Visitor, says
from tests.browser.story import find_wrong_answer, teach

pytestmark = pytest.mark.browser


def test_a_correction_goes_live_holds_in_other_words_and_survives_a_restart(
    browser: Browser, model: Path, tmp_path: Path
) -> None:
    app = App(tmp_path / "data")
    app.start()
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        visitor = Visitor(context.new_page(), app.url)
        visitor.open()
        lesson, wrong = find_wrong_answer(visitor)
        truth = lesson.fact.truth

        teach(visitor, lesson)
        visitor.better()
        visitor.wait_for_phase("queued", "training", "checking", "live")
        assert visitor.wait_for_phase("live", "not_kept", "failed") == "live", visitor.card.inner_text()
        proof = visitor.card.locator(".proof")
        expect(proof.locator(".before").first).to_have_text(wrong)
        assert says(proof.locator(".after").first.inner_text(), truth)

        visitor.new_conversation()
        reply = visitor.ask(lesson.other_wording)
        assert says(reply, truth), f"{lesson.other_wording!r} -> {reply!r}"
        visitor.page.get_by_label("Like", exact=True).last.click()
        expect(visitor.page.get_by_label("Liked")).to_have_count(1)

        assert app.stop() == 0
        app.start()
        visitor.open()  # the same browser: it remembers which conversation was shown
        expect(visitor.said.last).to_have_text(lesson.other_wording)
        expect(visitor.page.get_by_label("Liked")).to_have_count(1)
        visitor.page.locator("#conversations .title").nth(1).click()  # newest first: the one before
        expect(visitor.said.last).to_have_text(lesson.question)
        expect(visitor.page.get_by_label("Disliked").first).to_be_visible()
        expect(visitor.replies.last).to_contain_text("confirmed")

        visitor.new_conversation()
        reply = visitor.ask(lesson.other_wording)
        assert says(reply, truth), f"after the restart: {lesson.other_wording!r} -> {reply!r}"
    finally:
        context.close()
        app.stop()
