"""The server is away and comes back: the page loads itself again, and no message is lost on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.driver import ROUND_MS, App, Visitor

pytestmark = pytest.mark.browser


def test_a_message_typed_while_the_server_is_away_is_there_when_it_is_back(
    browser: Browser, model: Path, tmp_path: Path
) -> None:
    app = App(tmp_path / "data")
    app.start()
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        visitor = Visitor(context.new_page(), app.url)
        visitor.open()
        visitor.ask("What is an owl?")
        message = visitor.page.locator("#message textarea")
        visitor.page.evaluate("window.isFirst = true")
        app.stop()
        message.fill("What is a heron?")
        message.press("Enter")
        visitor.page.wait_for_timeout(500)
        app.start()
        visitor.page.wait_for_function("!window.isFirst", timeout=ROUND_MS)  # it has loaded itself again
        expect(visitor.said).to_have_text(["What is an owl?"], timeout=ROUND_MS)
        expect(message).to_have_value("What is a heron?", timeout=ROUND_MS)
        message.press("Enter")  # at once, while the page is still busy with its first events
        expect(visitor.said).to_have_text(["What is an owl?", "What is a heron?"])
        expect(visitor.replies).to_have_count(2, timeout=ROUND_MS)
        visitor.wait_until_idle()
        expect(message).to_have_value("")
        visitor.page.reload()
        expect(visitor.said).to_have_count(2)
        expect(message).to_have_value("")
    finally:
        context.close()
        app.stop()
