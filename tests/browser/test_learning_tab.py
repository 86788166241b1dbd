"""Taking back in a browser on the real app: Undo, Forget and its confirmation, and what was typed shown as text."""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.driver import ROUND_MS, App, Visitor, says
from tests.browser.story import Lesson, find_wrong_answer, teach

pytestmark = pytest.mark.browser


def learn(visitor: Visitor, lesson: Lesson, version: int) -> None:
    """Correct the reply that is shown and wait until this version answers with it."""
    teach(visitor, lesson)
    visitor.better()
    visitor.wait_for_phase("queued", "training", "checking", "not_kept", "failed", "live")
    assert visitor.wait_for_phase("live", "not_kept", "failed") == "live", visitor.card.inner_text()
    expect(visitor.card).to_have_attribute("data-version", str(version))
    reply = ask_anew(visitor, lesson.question)
    assert says(reply, lesson.fact.truth), f"learned, yet {lesson.question!r} -> {reply!r}"


def ask_anew(visitor: Visitor, question: str) -> str:
    visitor.new_conversation()
    return visitor.ask(question)


def entries(visitor: Visitor) -> Locator:
    return visitor.page.locator("#learned .entry")


def test_undo_and_forget_bring_the_old_answer_back(visitor: Visitor, app: App, tmp_path: Path) -> None:
    page = visitor.page
    visitor.open_tab("Learning")
    expect(page.locator("#learned .empty")).to_contain_text("Nothing learned yet")
    visitor.open_tab("Chat")

    lesson, wrong = find_wrong_answer(visitor)
    learn(visitor, lesson, version=1)
    page.get_by_role("button", name="Undo: back to the previous version").click()
    expect(visitor.card).to_have_attribute("data-version", "0")
    expect(page.get_by_role("button", name="Undo: back to the previous version")).to_be_hidden()
    expect(page.get_by_test_id("toast-body")).to_contain_text("Undone. The base model answers now.")
    expect(visitor.card).to_contain_text("Answering now: the base model")
    assert ask_anew(visitor, lesson.question) == wrong

    learn(visitor, lesson, version=2)
    visitor.open_tab("Learning")
    expect(entries(visitor)).to_have_count(2)
    newest = entries(visitor).first
    expect(newest.locator("h4")).to_have_text(lesson.question)
    expect(newest.locator(".before").first).to_have_text(wrong)
    expect(newest.locator(".after").first).to_contain_text(lesson.fact.truth)
    expect(newest.locator(".pill")).to_have_text("learned")
    expect(entries(visitor).nth(1).locator(".pill")).to_have_text("undone")
    versions = page.locator("#adapters .entry")
    expect(versions.locator("h4")).to_have_text(["v2", "v1"])
    expect(versions.first).to_contain_text("on top of the base model")

    versions.first.get_by_role("button", name="Pin").click()
    expect(versions.first).to_contain_text("Unpin")
    expect(versions.first.locator(".pill")).to_have_text(["pinned", "live"])

    expect(page.locator("#progress .headline")).to_contain_text("v2 answers now")
    expect(page.get_by_role("img", name="Judged replies, over the last 20").first).to_be_visible()
    page.fill("#compare-prompt textarea, #compare-prompt input", lesson.question)
    page.click("#compare-versions")
    expect(page.locator("#compared-versions section h4")).to_have_text(["the base model", "v2"])
    expect(page.locator("#compared-versions section .words").first).to_contain_text(wrong)
    expect(page.locator("#compared-versions section .words").last).to_contain_text(lesson.fact.truth)
    with page.expect_download() as downloaded:
        page.get_by_role("link", name="Download v2").click()
    packed = tmp_path / "v2.zip"
    downloaded.value.save_as(packed)
    page.set_input_files("#adapters-side input[type=file]", packed)
    expect(page.locator("#uploaded")).to_contain_text("v3 answers now", timeout=ROUND_MS)
    page.get_by_role("button", name="Undo: back to the previous version").last.click()
    expect(versions.locator(".pill").first).to_have_text("undone")

    dialog = page.get_by_role("dialog")
    backups = page.locator("#backup-list .entry")
    page.click("#back-up")
    expect(backups).to_contain_text("Holds nothing that was erased since.")
    expect(page.locator("#erase-from-backups")).to_be_hidden()
    newest.get_by_role("button", name="Forget").click()
    expect(dialog).to_contain_text("Peers that already downloaded a version keep it, and so do backups")
    expect(dialog.locator("blockquote")).to_have_text(lesson.question)
    expect(dialog.get_by_role("button", name="Keep")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(entries(visitor)).to_have_count(2)

    newest.get_by_role("button", name="Forget").click()
    dialog.get_by_role("button", name="Forget").click()
    expect(page.get_by_test_id("toast-text").filter(has_text="Forgotten").first).to_be_visible()
    expect(entries(visitor)).to_have_count(1)
    expect(entries(visitor).locator(".pill")).to_have_text("undone")
    expect(versions.locator(".pill")).to_have_text(["deleted", "deleted", "undone"])
    expect(backups).to_contain_text("Still holds")
    page.click("#erase-from-backups")
    expect(backups).to_contain_text("Holds nothing that was erased since.")
    expect(backups).to_have_count(1)

    page.click("#back-up")
    expect(backups).to_have_count(2)
    entries(visitor).first.get_by_role("button", name="Forget").click()
    dialog.get_by_role("checkbox").check()
    dialog.get_by_role("button", name="Forget").click()
    expect(entries(visitor)).to_have_count(0)
    expect(backups).to_have_count(1)
    expect(backups).to_contain_text("Holds nothing that was erased since.")

    visitor.open_tab("Chat")
    expect(visitor.card).to_have_attribute("data-version", "0")
    assert ask_anew(visitor, lesson.question) == wrong


def test_html_typed_as_a_question_is_text_in_the_learning_tab(visitor: Visitor) -> None:
    typed = '<img src=x onerror="window.hit=1"> ${window.hit=2} {{value}}'
    visitor.ask(typed)
    visitor.thumbs_down()
    visitor.page.click("#not-now")
    visitor.open_tab("Learning")
    expect(entries(visitor).first.locator("h4")).to_have_text(typed)
    entries(visitor).first.get_by_role("button", name="Forget").click()
    expect(visitor.page.get_by_role("dialog").locator("blockquote")).to_have_text(typed)
    visitor.page.keyboard.press("Escape")
    expect(visitor.page.get_by_role("dialog")).to_be_hidden()
    assert visitor.page.locator("#learning-page img").count() == 0
    assert visitor.page.evaluate("window.hit") is None


def test_words_of_others_in_a_warning_are_text(visitor: Visitor, tmp_path: Path) -> None:
    """What an adapter from elsewhere, or a peer, says of itself is quoted in sentences, and Gradio takes these for HTML."""
    words = "<img src=x onerror=window.hit=1>"
    packed = tmp_path / "foreign.zip"
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("adapter_config.json", json.dumps({"peft_type": words}))
        file.writestr("adapter_model.safetensors", b"")
    visitor.open_tab("Learning")
    visitor.page.set_input_files("#adapters-side input[type=file]", packed)
    toast = visitor.page.get_by_test_id("toast-body")
    expect(toast).to_contain_text(words)
    assert toast.locator("img").count() == 0
    assert visitor.page.evaluate("window.hit") is None


def test_the_learning_tab_asks_the_server_only_while_it_is_open(visitor: Visitor) -> None:
    asked: list[str] = []  # functions of the page
    visitor.page.on("request", lambda request: asked.extend(re.findall(r'"fn_index":\d+', request.post_data or "")))

    def asked_again(functions: int, times: int = 3) -> set[str]:
        """What was asked three times by when so many functions were asked so often. A click's own requests come once."""
        asked.clear()
        for _ in range(200):
            visitor.page.wait_for_timeout(300)
            counts = Counter(asked)
            if sum(count >= times for count in counts.values()) >= functions:
                break
        return {function for function, count in counts.items() if count >= 3}

    the_card = asked_again(1)
    assert len(the_card) == 1
    visitor.open_tab("Learning")
    assert len(asked_again(3) - the_card) == 2  # the lists and the figures
    visitor.open_tab("Chat")
    assert asked_again(1, times=5) == the_card
