"""Two people with logins: each sees their own, and a guest sees nothing that only an owner may press."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from services.accounts.users_file import add_user
from tests.browser.driver import App, Visitor

pytestmark = pytest.mark.browser

LogIn = Callable[[str], Visitor]
PASSWORD = "a long password"


@pytest.fixture(scope="module")
def app(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("users")
    users = folder / "users.json"
    add_user(users, "anna", "owner", PASSWORD)
    add_user(users, "ben", "guest", PASSWORD)
    running = App(folder / "data", flags=("--auth-file", str(users)))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def log_in(browser: Browser, app: App) -> Iterator[LogIn]:
    contexts = []

    def enter(name: str) -> Visitor:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 800}))
        page = contexts[-1].new_page()
        page.goto(app.url)
        page.fill("[name=name]", name)
        page.fill("[name=password]", PASSWORD)
        page.keyboard.press("Enter")
        someone = Visitor(page, app.url)
        page.wait_for_selector("#message textarea")
        expect(page.locator("#who")).to_contain_text(name)
        return someone

    yield enter
    for context in contexts:
        context.close()


OWNERS = {
    "Chat": ["#status-buttons button:has-text('Pause learning')"],
    "Learning": ["#download-version", "#upload-zip", "#back-up"],
    "Federation": ["#add-peer button", "#peers [data-do=sync]"],
    "Demo": ["#demo-start"],
    "Models": ["#model-check"],
}


def test_a_guest_sees_no_button_that_only_an_owner_may_press(log_in: LogIn) -> None:
    owner: Page = log_in("anna").page
    guest: Page = log_in("ben").page
    for tab, selectors in OWNERS.items():
        for page in (owner, guest):
            page.get_by_role("tab", name=tab).click()
        for selector in selectors:
            expect(owner.locator(selector)).to_be_visible()
            expect(guest.locator(selector)).to_be_hidden()


def test_what_one_says_the_other_does_not_see_and_logging_out_ends_it(log_in: LogIn) -> None:
    owner: Visitor = log_in("anna")
    guest: Visitor = log_in("ben")
    owner.ask("What is a violin?")
    expect(owner.page.locator("#conversations")).to_contain_text("violin")
    guest.page.reload()
    expect(guest.page.locator("#who")).to_contain_text("ben (guest)")
    expect(guest.page.locator("#conversations")).not_to_contain_text("violin")
    guest.page.get_by_role("button", name="Log out").click()
    expect(guest.page.locator("[name=password]")).to_be_visible()
