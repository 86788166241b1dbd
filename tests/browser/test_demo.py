"""The demonstration on an app of its own, to which nothing has been said: it leaves no trace there."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import expect

from tests.browser.driver import ROUND_MS, App, Visitor

pytestmark = pytest.mark.browser


def test_the_demonstration_asks_answers_pauses_and_leaves_no_trace(visitor: Visitor, app: App) -> None:
    page = visitor.page
    before = sorted(file.name for file in app.data_folder.rglob("*.safetensors"))
    visitor.open_tab("Demo")
    visitor.choose_demo_speed("Fast")
    page.get_by_role("button", name="Start the demo").click()
    page.wait_for_selector(".demo[data-phase=running]:not([data-asked='0'])", timeout=ROUND_MS)
    expect(page.locator(".demo .talk li").first).to_contain_text("Frozen model")
    page.get_by_role("button", name="Pause").click()
    page.wait_for_selector(".demo[data-phase=paused]")
    expect(page.get_by_role("button", name="Resume")).to_be_enabled()
    page.get_by_role("button", name="Reset").click()
    page.wait_for_selector(".demo[data-phase=idle]")
    deadline = time.monotonic() + 60  # a round under way ends first, then its folder goes
    while (left := sorted(file.name for file in app.data_folder.rglob("*.safetensors"))) != before:
        assert time.monotonic() < deadline, left
        time.sleep(0.5)
    visitor.open_tab("Learning")
    expect(page.locator("#adapters .empty")).to_contain_text("the base model answers")
