"""How the page feels: the first load on a warm server, and a conversation of 500 messages that scrolls and takes votes.

`python -m benchmarks.page --json [--messages 500] [--loads 5]`
Starts app.py as a process and drives it with Chromium; the model is only loaded, not asked.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.app_process import running_app
from benchmarks.report import add_common_flags
from benchmarks.studies import print_figures
from feedback_store import Store
from services.app import DATABASE

VOTES = 9
SPOKEN = (
    "A short answer.",
    "An answer with **emphasis**, `code`, a list:\n\n- one\n- two\n\nand a formula $x^2 + y^2$.",
    "```python\ndef area(r):\n    return 3.14159 * r ** 2\n```\n\nThat is the area of a circle.",
    "Some longer words. " * 12,
)
SCROLL = """async () => {
    const log = document.querySelector('#chat .log'), times = [];
    let last = performance.now();
    for (let i = 0; i < 120; i++) {
        log.scrollTop = log.scrollHeight * (1 - i / 120);
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        times.push(now - last);
        last = now;
    }
    return times;
}"""


def talk(data_folder: Path, messages: int) -> str:
    """Store a conversation of so many messages, as a chat would have; returns its id."""
    with Store(data_folder / DATABASE) as store:
        conversation = store.create_conversation("A long talk")
        above = None
        for i in range(messages // 2):
            question = store.add_message(conversation.id, "user", f"Question {i}?", parent_id=above)
            reply = store.add_message(conversation.id, "assistant", SPOKEN[i % len(SPOKEN)], parent_id=question.id)
            above = reply.id
        return conversation.id


def load_seconds(browser: Browser, url: str) -> float:
    """From the request to a page that can be typed into; a new visitor with an empty cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        page = context.new_page()
        began = time.monotonic()
        page.goto(url)
        page.wait_for_selector("#chat .example")
        page.wait_for_selector("#message textarea")
        return time.monotonic() - began
    finally:
        context.close()


def vote_milliseconds(page: Page) -> float:
    """From a press on the newest thumb to the stored vote being shown."""
    button = page.locator("#chat .row:last-child [data-do=vote]").first
    before = button.get_attribute("aria-label")
    after = "Liked" if before == "Like" else "Like"
    began = time.monotonic()
    button.click()
    page.locator(f"#chat .row:last-child [aria-label={after}]").wait_for()
    return 1000 * (time.monotonic() - began)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        talk(Path(folder), arguments.messages)
        with running_app(arguments.model, Path(folder)) as app:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            first = load_seconds(browser, app.url)
            loads = [load_seconds(browser, app.url) for _ in range(arguments.loads)]
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(app.url)
            page.wait_for_selector("#conversations .title")
            began = time.monotonic()
            page.click("#conversations .title")
            page.wait_for_function(f"document.querySelectorAll('#chat .row').length === {arguments.messages}")
            opened = time.monotonic() - began
            frames = sorted(page.evaluate(SCROLL))
            votes = [vote_milliseconds(page) for _ in range(VOTES)]
            browser.close()
    return {
        "messages": arguments.messages,
        "first_load_seconds": first,
        "warm_load_seconds_p50": statistics.median(loads),
        "open_conversation_seconds": opened,
        "scroll_frame_milliseconds_p50": statistics.median(frames),
        "scroll_frame_milliseconds_p95": frames[int(0.95 * len(frames))],
        "vote_milliseconds_p50": statistics.median(votes),
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.add_argument("--messages", type=int, default=500)
    parser.add_argument("--loads", type=int, default=5)
    arguments = parser.parse_args()
    figures = run(arguments)
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
