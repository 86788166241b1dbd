"""The everyday chat: what is in sight, what a phone and a narrow window show, exports, details, and how the app ends."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from services.views import AdapterView, ChangedAnswerView, LearningStatus, QueuedCorrection
from tests.browser.driver import REPLY_MS, App, Visitor
from tests.browser.story import lessons
from tests.tiny_models import tiny_folder
from ui.chat.status_card import card_html

pytestmark = pytest.mark.browser
LONG = "\n".join(f"{i}. a line of a long message" for i in range(80))


def is_in_view(page: Page, selector: str) -> bool:
    """Whether the last such element lies within the visible part of the conversation."""
    return bool(
        page.evaluate(
            """(selector) => {
                const found = [...document.querySelectorAll(selector)].pop().getBoundingClientRect();
                const log = document.querySelector('#chat .log').getBoundingClientRect();
                return found.bottom <= log.bottom + 1 && found.top >= log.top - 1;
            }""",
            selector,
        )
    )


def overlap(page: Page, first: str, second: str) -> bool:
    """Whether two elements cover each other's place."""
    return bool(
        page.evaluate(
            """([a, b]) => {
                const [p, q] = [a, b].map((s) => document.querySelector(s).getBoundingClientRect());
                return p.left < q.right && q.left < p.right && p.top < q.bottom && q.top < p.bottom;
            }""",
            [first, second],
        )
    )


@pytest.fixture
def phone(browser: Browser, app: App) -> Iterator[Visitor]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    someone = Visitor(context.new_page(), app.url)
    someone.open()
    yield someone
    context.close()


def test_the_reply_to_a_long_message_scrolls_into_view(visitor: Visitor) -> None:
    page = visitor.page
    visitor.ask(lessons()[0].question)
    visitor.ask(LONG)
    page.wait_for_timeout(500)
    assert is_in_view(page, "#chat [data-testid=bot]")
    page.mouse.move(600, 300)
    page.mouse.wheel(0, -1500)
    page.wait_for_timeout(300)
    assert not is_in_view(page, "#chat [data-testid=bot]")
    page.evaluate("document.querySelector('#chat [data-value=\"1\"]').click()")  # a vote above does not move the reader
    expect(page.get_by_label("Liked")).to_have_count(1)
    assert not is_in_view(page, "#chat [data-testid=bot]")


def test_details_of_a_reply_are_shown_on_demand(visitor: Visitor) -> None:
    page = visitor.page
    visitor.ask(lessons()[0].question)
    told = page.locator("#chat .details")
    expect(told).to_be_hidden()
    page.get_by_label("Details").click()
    expect(told).to_contain_text("tokens")
    expect(told).to_contain_text("The model ended the reply itself. Written by")
    page.get_by_label("Details").click()
    expect(told).to_be_hidden()


def test_a_conversation_is_downloaded_as_markdown_and_json(visitor: Visitor, tmp_path: Path) -> None:
    page, question = visitor.page, lessons()[0].question
    visitor.open_settings()
    expect(page.locator(".export")).to_be_hidden()
    reply = visitor.ask(question)
    said = {}
    for form in ("markdown", "json"):
        with page.expect_download() as coming:
            page.locator(f"[data-export={form}]").click()
        coming.value.save_as(tmp_path / form)
        said[form] = (tmp_path / form).read_text(encoding="utf-8")
    assert f"## You\n\n{question}" in said["markdown"] and reply in said["markdown"]
    assert [m["text"] for m in json.loads(said["json"])["messages"]] == [question, reply]


def test_the_system_prompt_of_all_conversations_is_told_to_a_new_one(visitor: Visitor, app: App) -> None:
    page = visitor.page
    visitor.open_settings()
    saved = page.locator("#saved-everywhere")
    expect(saved).to_have_text("")
    page.fill("#common-system-prompt textarea", "You answer briefly.")
    page.locator("#common-system-prompt textarea").blur()
    expect(saved).to_have_text("Saved. It applies from your next message on.")
    visitor.ask("Hello!")
    conversation = page.locator("#conversations li.shown").get_attribute("data-id")
    told = page.request.get(f"{app.url}/v1/conversations/{conversation}/export?format=json").json()
    assert told["system_prompt"] == "You answer briefly."
    page.fill("#system-prompt textarea", "Answer in rhymes.")
    page.locator("#system-prompt textarea").blur()
    expect(page.locator("#saved-here")).to_have_text("Saved. It applies from your next message on.")
    page.fill("#system-prompt textarea", "")
    expect(page.locator("#saved-here")).to_have_text("")  # something else is being typed
    page.locator("#system-prompt textarea").blur()
    expect(page.locator("#saved-here")).to_contain_text("Saved.")
    visitor.open()
    visitor.open_settings()
    expect(page.locator("#system-prompt textarea")).to_have_value("")
    page.fill("#common-system-prompt textarea", "")
    page.locator("#common-system-prompt textarea").blur()
    expect(page.locator("#saved-everywhere")).to_contain_text("Saved.")


def make_the_page_say_something(visitor: Visitor) -> None:
    page = visitor.page
    visitor.ask(lessons()[0].question)
    visitor.thumbs_down()
    page.click("#write-it")
    page.fill("#edited textarea", "")
    page.click("#save-edit")
    expect(page.locator(".toast-body").first).to_be_visible()
    page.wait_for_timeout(500)  # it has moved to its place


def test_a_message_of_the_page_covers_neither_card_nor_tabs(visitor: Visitor) -> None:
    page = visitor.page
    make_the_page_say_something(visitor)
    needed = ("#status-card .card", "#main", "#new-conversation", "#conversations li", "#top", "#pages > .tab-wrapper")
    assert [part for part in needed if overlap(page, ".toast-body", part)] == []
    visitor.open_tab("Learning")
    expect(page.locator(".toast-body").first).to_be_visible()
    visitor.open_tab("Chat")


def test_on_a_phone_a_message_of_the_page_covers_neither_tabs_nor_what_is_being_written(phone: Visitor) -> None:
    page = phone.page
    make_the_page_say_something(phone)
    assert page.locator(".toast-body").first.bounding_box()["width"] > 300  # type: ignore[index]
    assert [part for part in ("#main", "#top", "#pages > .tab-wrapper") if overlap(page, ".toast-body", part)] == []
    phone.open_tab("Learning")
    expect(page.locator(".toast-body").first).to_be_visible()


def test_comparing_does_not_open_over_another_conversation(visitor: Visitor) -> None:
    page = visitor.page
    visitor.ask(lessons()[0].question)
    # both at once, as a person is quicker than a busy machine
    page.evaluate(
        "document.querySelector('[data-do=compare]').click(); document.querySelector('#new-conversation').click()"
    )
    expect(visitor.said).to_have_count(0)
    page.wait_for_timeout(2500)
    expect(page.locator("#compare-dialog dialog")).to_be_hidden()


def test_escape_while_both_versions_are_asked_closes_the_box_for_good(visitor: Visitor, app: App) -> None:
    page = visitor.page
    visitor.ask(lessons()[0].question)
    button, dialog = (
        page.get_by_label("Compare with and without what was learned"),
        page.locator("#compare-dialog dialog"),
    )
    asking = dialog.locator("[role=status]")
    assert app.process is not None
    for _ in range(20):  # the small model is quick: until the app was stopped before it had answered
        button.first.click()
        expect(dialog).to_be_visible()
        app.process.send_signal(signal.SIGSTOP)
        page.wait_for_timeout(1_000)  # what was sent before has come, to a busy browser late
        if asking.count():
            break
        app.process.send_signal(signal.SIGCONT)
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    app.process.send_signal(signal.SIGCONT)
    expect(asking).to_have_count(1)
    page.wait_for_timeout(2500)
    expect(dialog).to_be_hidden()  # the late answers do not open it again
    button.first.click()
    expect(dialog.locator("section")).not_to_have_count(0)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


ESCAPE_WHILE_ASKING = """() => {
    const compared = document.querySelector('#compared-versions');
    const observer = new MutationObserver(() => {
        if (!compared.querySelector('[role=status]')) return;
        observer.disconnect();
        window.wasAsking = true;
        document.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}));
    });
    observer.observe(compared, {childList: true, subtree: true});
}"""


def test_escape_while_two_versions_are_asked_in_the_learning_tab_shows_no_answer(visitor: Visitor) -> None:
    page = visitor.page
    visitor.open_tab("Learning")
    compared = page.locator("#compared-versions")
    page.fill("#compare-prompt textarea, #compare-prompt input", lessons()[0].question)
    page.evaluate(ESCAPE_WHILE_ASKING)
    page.click("#compare-versions")
    page.wait_for_function("window.wasAsking")
    page.wait_for_timeout(2500)
    expect(compared.locator("p, section")).to_have_count(0)
    page.click("#compare-versions")
    expect(compared.locator("section")).not_to_have_count(0)


def test_no_list_of_the_learning_card_has_bullets(visitor: Visitor) -> None:
    page = visitor.page
    changed = (ChangedAnswerView("What is a harp?", "A tool.", "A bird.", "neighbour", True),)
    queue = (QueuedCorrection("m", "What is an owl?", "A bird."),)
    status = LearningStatus("queued", "Queued.", "", checked=20, changed=changed, queue=queue)
    card = card_html(status, [AdapterView(1, 0, "live", "", "Kept.")])
    marks = page.evaluate(
        """(html) => {
            const box = document.querySelector('#status-card .card').parentElement;
            box.innerHTML = html;
            box.querySelectorAll('details').forEach((one) => { one.open = true; });
            return [...box.querySelectorAll('li')].map((one) => getComputedStyle(one).listStyleType);
        }""",
        card,
    )
    assert len(marks) == 7 and {*marks} == {"none"}, marks


def test_on_a_phone_every_tab_is_reachable_and_nothing_in_the_settings_overlaps(phone: Visitor) -> None:
    page = phone.page
    for name in ("Chat", "Learning", "Federation", "Demo", "Models"):
        box = page.get_by_role("tab", name=name).bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390, name
    for hidden_once in ("#new-conversation", "#search"):
        assert not overlap(page, hidden_once, "#pages > .tab-wrapper"), hidden_once
    page.click("#new-conversation")
    phone.open_settings()
    parts = page.locator("#sampling .form > *")
    boxes = [parts.nth(i).bounding_box() for i in range(parts.count())]
    assert len(boxes) == 3 and all(boxes)
    for above, below in zip(boxes, boxes[1:], strict=False):
        assert above and below and above["y"] + above["height"] <= below["y"] + 1
        assert below["x"] + below["width"] <= 390
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize(("width", "height"), [(900, 900), (900, 600), (390, 844)])
def test_the_header_stays_in_a_narrow_window(browser: Browser, app: App, width: int, height: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": height})
    try:
        visitor = Visitor(context.new_page(), app.url)
        visitor.open()
        visitor.ask(LONG)
        visitor.page.mouse.move(width / 2, height - 40)
        visitor.page.mouse.wheel(0, 5000)
        visitor.page.wait_for_timeout(500)
        assert visitor.page.evaluate("window.scrollY") > 0
        for part in (visitor.page.locator("#top .brand"), visitor.page.get_by_role("tab", name="Learning")):
            box = part.bounding_box()
            assert box and 0 <= box["y"] < 90, box
    finally:
        context.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_with_an_open_page_a_signal_closes_the_app_cleanly_with_one_line(
    browser: Browser, model: Path, tmp_path: Path, number: int
) -> None:
    app = App(tmp_path / "data")
    app.start()
    context = browser.new_context()
    try:
        visitor = Visitor(context.new_page(), app.url)
        visitor.open()
        visitor.ask("What is an owl?")
        log = tmp_path / "data.log"
        before = log.read_text()
        assert app.stop(number) == 0
        assert log.read_text().removeprefix(before) == "Stopping; conversations are saved.\n"
        assert app.said == [f"SPEAR chat with {model.name} is ready: {app.url}"]
        assert "Traceback" not in before
    finally:
        context.close()


def test_a_reply_that_was_cut_off_is_continued_with_one_click(visitor: Visitor) -> None:
    page, line = visitor.page, visitor.page.locator("#chat .cut")
    visitor.open_settings()
    longest, noted = page.get_by_label("Longest reply in tokens"), page.locator("#saved-here")
    for attempt in range(3):  # a box that was just drawn may take back what is typed within the first moments
        longest.fill("3")
        page.keyboard.press("Tab")
        try:
            expect(noted).to_contain_text("It applies from the first message on", timeout=5_000)
            break
        except AssertionError:
            assert attempt < 2
    begun = visitor.ask("What is the capital of Kenya?")
    expect(line).to_contain_text(
        "Cut off at the longest reply allowed. Nothing is learned from it until it is complete."
    )
    page.get_by_role("button", name="Continue").click()
    reply = visitor.replies.last.locator("p").last
    expect(reply).not_to_have_text(begun, timeout=REPLY_MS)
    visitor.wait_until_idle()
    expect(visitor.replies).to_have_count(1)
    assert visitor.last_reply().startswith(begun)


def test_an_owner_switches_the_model_in_the_tab_and_back_above_the_chat(
    visitor: Visitor, model: Path, tmp_path: Path
) -> None:
    page = visitor.page
    examples, name = page.locator("#chat .example"), page.locator("#top .name")
    of_the_start = examples.all_inner_texts()
    assert of_the_start
    visitor.open_tab("Models")
    page.fill("#model-name input", str(tiny_folder("qwen2", tmp_path / "tiny-other")))
    page.keyboard.press("Tab")
    page.click("#model-check")
    expect(page.locator("#model-switch")).to_be_enabled()
    page.click("#model-switch")
    picker = page.locator("#model-picker input")
    expect(picker).to_have_value("tiny-other", timeout=REPLY_MS)  # the page has loaded itself again
    expect(examples).not_to_have_text(of_the_start)  # but those of a model whose folder names none
    expect(name).to_have_text("tiny-other")
    picker.click()
    page.get_by_role("option", name=model.name, exact=True).click()
    expect(name).to_have_text(model.name, timeout=REPLY_MS)
    expect(examples).to_have_text(of_the_start)
