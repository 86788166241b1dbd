"""A browser, and the app as a process. Without Chromium the tests are skipped, or fail where REQUIRE_BROWSER=1."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.browser.driver import MODEL, App, Visitor, chromium

INSTALL = "Chromium is missing; install it with: apt-get install -y --no-install-recommends chromium"


def _missing(reason: str) -> None:
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")  # no longer: while it runs, no other test of the process can run an event loop
def browser() -> Iterator[Browser]:
    if shutil.which("chromium") is None:
        _missing(INSTALL)
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def model() -> Path:
    if not MODEL.is_dir():
        _missing(f"the pocket model is missing: {MODEL}")
    return MODEL


@pytest.fixture(scope="module")
def app(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """One running app for a module's tests."""
    running = App(tmp_path_factory.mktemp("app") / "data")
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def profile(browser: Browser) -> Iterator[BrowserContext]:
    """One browser profile for a module's visitors: what it has fetched and compiled of the page need not come again."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context
    context.close()


@pytest.fixture
def visitor(profile: BrowserContext, app: App) -> Iterator[Visitor]:
    """A new visitor on the open page, who has nothing of those before: no cookie, nothing stored."""
    someone = Visitor(profile.new_page(), app.url)
    someone.page.goto(
        f"{app.url}/healthz"
    )  # a page without scripts: the one before may have stored something as it closed
    someone.page.evaluate("localStorage.clear()")
    someone.open()
    yield someone
    for page in profile.pages:
        page.close()
    profile.clear_cookies()
