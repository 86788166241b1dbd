"""`python -m tests.browser.screenshots`: walk the journey on the real app, write docs/images/*.png for two widths."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.driver import MODEL, ROOT, App, Visitor, chromium
from tests.browser.story import find_wrong_answer, teach

IMAGES = ROOT / "docs" / "images"
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


class Camera:
    def __init__(self, visitor: Visitor, size: str) -> None:
        self.visitor, self.size, self.taken = visitor, size, 0

    def take(self, stage: str, whole_page: bool = False) -> None:
        self.taken += 1
        self.visitor.page.wait_for_timeout(700)  # scrolling and transitions come to rest
        self.visitor.page.screenshot(path=IMAGES / f"{self.taken}-{stage}-{self.size}.png", full_page=whole_page)


def walk(browser: Browser, size: str, data_folder: Path) -> None:
    """One visitor teaches one fact; every stage is photographed."""
    width, height = SIZES[size]
    app = App(data_folder)
    app.start()
    context = browser.new_context(viewport={"width": width, "height": height})
    try:
        visitor = Visitor(context.new_page(), app.url)
        camera = Camera(visitor, size)
        visitor.open()
        camera.take("empty-page")
        lesson, _ = find_wrong_answer(visitor)
        visitor.thumbs_down()
        visitor.page.fill("#hint textarea", lesson.hint)
        camera.take("wrong-answer-with-hint")
        teach(visitor, lesson, box_is_open=True)
        camera.take("revision")
        visitor.better()
        visitor.wait_for_phase("training", "checking", "live")
        camera.take("training", whole_page=size == "phone")
        if visitor.wait_for_phase("live", "not_kept", "failed") != "live":
            raise RuntimeError(f"the correction was not kept: {visitor.card.inner_text()}")
        camera.take("live-with-proof", whole_page=size == "phone")
        visitor.new_conversation()
        visitor.ask(lesson.other_wording)
        camera.take("asked-in-other-words")
        visitor.open_tab("Learning")
        camera.take("learning-tab", whole_page=size == "phone")
    finally:
        context.close()
        app.stop()


def main() -> int:
    if not MODEL.is_dir():
        print(f"The pocket model is missing: {MODEL}", file=sys.stderr)
        return 2
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser:
        for size in SIZES:
            walk(browser, size, Path(scratch) / size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
