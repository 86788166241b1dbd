"""What the page must never do, and the small things it must: one app, many short visits."""

from __future__ import annotations

import re
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import APIResponse, Browser, Route, expect

from tests.browser.axe import serious_findings
from tests.browser.driver import REPLY_MS, App, Visitor
from tests.browser.story import lessons
from tests.tiny_gguf import tiny_gguf
from ui.long_lists import PAGE_LENGTH

pytestmark = pytest.mark.browser


def test_no_request_leaves_for_another_host(visitor: Visitor, app: App) -> None:
    hosts: set[str] = set()
    visitor.page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    visitor.open()
    visitor.ask("Hello! ![](http://example.invalid/picture.png)")
    visitor.thumbs_down()
    visitor.page.wait_for_timeout(1500)
    assert hosts - {""} == {f"127.0.0.1:{app.port}"}


def test_the_page_names_no_script_font_or_style_of_another_host(visitor: Visitor) -> None:
    loaded = visitor.page.eval_on_selector_all(
        "script[src], link[href], img[src], iframe[src]", "found => found.map(e => e.src || e.href)"
    )
    assert loaded
    assert [url for url in loaded if not url.startswith((visitor.url, "data:", "blob:"))] == []


@pytest.mark.parametrize(
    "typed", ["<script>window.hit=1</script>hi", "<img src=x onerror='window.hit=1'>", "<b>bold</b>"]
)
def test_html_typed_into_the_chat_is_shown_as_text(visitor: Visitor, typed: str) -> None:
    visitor.ask(typed)
    expect(visitor.said.last).to_have_text(typed)
    assert visitor.page.evaluate("window.hit") is None


def test_a_question_leaves_the_box_although_its_answer_overtakes_the_receipt(visitor: Visitor) -> None:
    def late(route: Route) -> None:
        receipt = route.fetch()
        time.sleep(1.0)  # the whole reply has come by another connection
        route.fulfill(response=receipt)

    visitor.page.route("**/queue/join*", late)
    visitor.ask(lessons()[0].question)
    visitor.page.unroute("**/queue/join*")


def test_a_reload_brings_back_the_conversation_and_its_votes(visitor: Visitor) -> None:
    question = lessons()[0].question
    visitor.ask(question)
    visitor.page.get_by_label("Dislike", exact=True).last.click()
    visitor.page.click("#not-now")
    visitor.open()
    expect(visitor.said.last).to_have_text(question)
    expect(visitor.page.get_by_label("Disliked")).to_have_count(1)


def test_a_vote_taken_back_stays_taken_back(visitor: Visitor) -> None:
    visitor.ask(lessons()[1].question)
    visitor.page.get_by_label("Like", exact=True).last.click()
    with visitor.page.expect_response("**/queue/join*"):  # the second click comes before the first is answered
        visitor.page.get_by_label("Liked").click()
    visitor.page.wait_for_timeout(1000)
    expect(visitor.page.get_by_label("Liked")).to_have_count(0)
    visitor.open()
    expect(visitor.page.get_by_label("Like", exact=True)).to_have_count(1)


def test_a_window_that_missed_a_vote_given_in_another_one_catches_up_with_the_next(visitor: Visitor) -> None:
    visitor.ask(lessons()[4].question)
    visitor.ask(lessons()[5].question)
    other = Visitor(visitor.page.context.new_page(), visitor.url)
    other.open()
    other.page.get_by_label("Like", exact=True).first.click()
    expect(other.page.get_by_label("Liked")).to_have_count(1)
    expect(visitor.page.get_by_label("Liked")).to_have_count(0)
    visitor.page.get_by_label("Like", exact=True).last.click()
    expect(visitor.page.get_by_label("Liked")).to_have_count(2)


def test_the_hint_box_quotes_the_reply_it_is_about(visitor: Visitor) -> None:
    first = visitor.ask(lessons()[2].question)
    visitor.ask(lessons()[3].question)
    visitor.page.get_by_label("Dislike", exact=True).first.click()
    expect(visitor.page.locator("#hint-box blockquote")).to_have_text(first)


def test_a_reply_written_by_the_person_replaces_the_wrong_one(visitor: Visitor) -> None:
    visitor.open_settings()
    visitor.page.locator("#no-learning input").check()
    visitor.ask(lessons()[4].question)
    visitor.thumbs_down()
    visitor.page.click("#write-it")
    visitor.page.fill("#edited textarea", "This is what I wanted.")
    visitor.page.click("#save-edit")
    expect(visitor.replies.last).to_contain_text("Your wording")
    expect(visitor.replies.last).to_contain_text("This is what I wanted.")
    expect(visitor.page.locator("#no-learning input")).to_be_checked()


def test_a_deleted_conversation_is_gone_after_a_reload(visitor: Visitor) -> None:
    visitor.ask("Goodbye!")
    asked: list[str] = []
    visitor.page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    item = visitor.page.locator("#conversations li", has_text="Goodbye!")
    item.hover()
    item.get_by_role("button", name="Delete").click()
    expect(visitor.said).to_have_count(0)
    visitor.open()
    expect(visitor.said).to_have_count(0)
    expect(visitor.page.locator("#conversations li", has_text="Goodbye!")).to_have_count(0)
    assert "Delete the conversation “Goodbye!”?" in asked[0] and "press Forget in the Learning tab first" in asked[0]


def test_old_conversations_are_shown_on_demand_and_opened(visitor: Visitor, app: App) -> None:
    page = visitor.page
    for i in range(PAGE_LENGTH + 1):
        said = {"messages": [{"role": "user", "content": f"Number {i}"}], "model": "pocket-model", "max_tokens": 1}
        assert page.request.post(f"{app.url}/v1/chat/completions", data=said).ok
    visitor.open()
    listed, oldest = page.locator("#conversations li"), page.locator("#conversations .title", has_text="Number 0")
    expect(listed).to_have_count(PAGE_LENGTH)
    expect(oldest).to_have_count(0)
    page.locator("#conversations").get_by_role("button", name="Show more").click()
    oldest.click()
    expect(visitor.said).to_have_text(["Number 0"])
    expect(oldest).to_be_visible()


def test_pausing_shows_on_the_card_and_can_be_undone(visitor: Visitor) -> None:
    visitor.page.get_by_role("button", name="Pause learning").click()
    visitor.wait_for_phase("paused")
    visitor.page.get_by_role("button", name="Resume learning").click()
    expect(visitor.page.get_by_role("button", name="Pause learning")).to_be_visible()


def test_a_card_that_arrives_late_does_not_stay_over_a_newer_one(visitor: Visitor, app: App) -> None:
    """On a busy machine the answer to a tick may arrive after that to a click which was made later."""
    held: list[tuple[Route, APIResponse]] = []
    button = visitor.page.locator("#status-buttons button", has_text="learning")

    def hold_the_first_paused(route: Route) -> None:
        answer = route.fetch()
        if not held and "Learning is paused" in answer.text():
            held.append((route, answer))
        else:
            route.fulfill(response=answer)

    def pause(paused: bool) -> None:
        assert visitor.page.request.post(f"{app.url}/v1/learning", data={"paused": paused}).ok

    expect(button).to_have_text("Pause learning")
    visitor.page.route("**/gradio_api/run/**", hold_the_first_paused)
    try:
        pause(True)
        began = time.monotonic()
        while not held:
            assert time.monotonic() - began < REPLY_MS / 1000, "no answer to a tick came"
            visitor.page.wait_for_timeout(100)
            if (
                not held and button.inner_text() == "Resume learning"
            ):  # a tick from before the route was answered after it
                pause(False)
                expect(button).to_have_text("Pause learning")
                pause(True)
        pause(False)
        button.click()
        expect(button).to_have_text("Resume learning")
        button.click()
        expect(button).to_have_text("Pause learning")
        ((route, answer),) = held
        route.fulfill(response=answer)
        visitor.page.wait_for_timeout(500)  # until what comes late is drawn
        expect(button).to_have_text("Pause learning")
        expect(visitor.card).not_to_have_attribute("data-phase", "paused")
    finally:
        pause(False)


def test_a_busy_port_is_one_sentence_and_exit_code_2(app: App, tmp_path: Path) -> None:
    code, out, said = App(tmp_path / "data", app.port).fail_to_start()
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"Port {app.port} .* --port\.\n", said)


@pytest.mark.parametrize(
    ("flag", "value", "named"), [("--data-folder", "{file}/inside", "data folder"), ("--model", "{file}", "")]
)
def test_what_cannot_be_opened_is_one_sentence_and_exit_code_2(
    model: Path, tmp_path: Path, flag: str, value: str, named: str
) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    flags = [flag, value.format(file=blocked)]  # the later flag counts
    code, _, said = App(tmp_path / "data", flags=flags).fail_to_start()
    assert code == 2, said
    assert "Traceback" not in said and named in said
    assert len(said.strip().splitlines()) == 1, said


def test_a_changed_question_is_a_branch_that_stays_after_a_reload(visitor: Visitor) -> None:
    page = visitor.page
    first, second = (lesson.question for lesson in lessons()[5:7])
    visitor.ask(first)
    page.keyboard.press("ArrowUp")  # in the empty composer: change the last message
    expect(page.locator("#message textarea")).to_have_value(first)
    expect(page.locator("#rewriting")).to_be_visible()
    page.fill("#message textarea", second)
    page.keyboard.press("Enter")
    expect(visitor.said).to_have_text([second])
    visitor.wait_until_idle()
    expect(page.locator("#chat .msg.user .versions")).to_contain_text("2/2")
    page.get_by_label("Earlier version of this question").click()
    expect(visitor.said).to_have_text([first])
    page.get_by_label("Answer again").last.click()
    expect(page.locator("#chat .msg.bot .versions")).to_contain_text("2/2")
    visitor.wait_until_idle()
    visitor.open()
    expect(visitor.said).to_have_text([first])
    expect(page.locator("#chat .msg.bot .versions")).to_contain_text("2/2")


def test_conversations_are_renamed_and_found_by_what_was_said(visitor: Visitor) -> None:
    page = visitor.page
    visitor.ask("Good morning to the heron!")
    item = page.locator("#conversations li.shown")
    item.hover()
    item.get_by_role("button", name="Rename").click()
    page.fill("#conversations input", "<b>Birds</b>")
    page.keyboard.press("Enter")
    expect(item.locator(".title")).to_have_text("<b>Birds</b>")
    page.fill("#search :is(input, textarea)", "heron")
    expect(page.locator("#conversations li")).to_have_count(1)
    page.fill("#search :is(input, textarea)", "no such words")
    expect(page.locator("#conversations .none")).to_contain_text("No conversation contains these words")


def test_a_reload_in_the_middle_of_a_reply_loses_nothing(visitor: Visitor) -> None:
    question = lessons()[7].question
    visitor.page.fill("#message textarea", question)
    visitor.page.keyboard.press("Enter")
    expect(visitor.said.last).to_have_text(question)
    visitor.open()
    expect(visitor.said.last).to_have_text(question)
    visitor.wait_until_idle()
    expect(visitor.page.locator("#chat .writing")).to_have_count(0)
    assert len(visitor.last_reply()) > 1


def test_two_people_at_once_each_get_their_own_answer(visitor: Visitor, app: App, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        other = Visitor(context.new_page(), app.url)
        other.open()
        questions = ["What colour is the sky?", "What is the capital of France?"]
        for person, question in zip((visitor, other), questions, strict=True):
            person.page.fill("#message textarea", question)
            person.page.keyboard.press("Enter")
        for person, question in zip((visitor, other), questions, strict=True):
            expect(person.said).to_have_text([question])
            expect(person.replies).to_have_count(1)
            person.wait_until_idle()
        assert "sky" in visitor.last_reply() and "France" in other.last_reply()
    finally:
        context.close()


def test_a_system_prompt_stays_with_its_conversation(visitor: Visitor) -> None:
    visitor.open_settings()
    visitor.page.fill("#system-prompt textarea", "Answer in one word.")
    visitor.ask("Hello!")
    visitor.open()
    visitor.open_settings()
    expect(visitor.page.locator("#system-prompt textarea")).to_have_value("Answer in one word.")
    visitor.new_conversation()
    expect(visitor.page.locator("#system-prompt textarea")).to_have_value("")


def test_the_models_tab_weighs_before_it_loads(visitor: Visitor, model: Path) -> None:
    page = visitor.page
    visitor.open_tab("Models")
    expect(page.locator("#models-known .entry").first).to_contain_text(f"{model.name}answers now")
    page.fill("#model-name input", "/no/such/folder")
    page.keyboard.press("Tab")
    page.click("#model-check")
    expect(page.get_by_role("alert")).to_contain_text("There is no folder /no/such/folder; check the path")
    expect(page.locator("#model-switch")).to_be_disabled()
    words = page.locator("#models").inner_text().lower()
    assert not [word for word in ("causal", "adapter", "rank", "gate") if word in words], "words of the trade"
    page.fill("#model-name input", str(model))
    page.keyboard.press("Tab")
    page.click("#model-check")
    expect(page.locator("#model-memory")).to_contain_text("are free")
    expect(page.locator("#model-switch")).to_be_enabled()


def test_models_of_a_named_folder_are_listed_and_chosen_and_a_download_without_a_hub_says_so(
    visitor: Visitor, tmp_path: Path
) -> None:
    page = visitor.page
    tiny_gguf("qwen3", tmp_path / "tiny-qwen3.gguf")
    (tmp_path / "noise.gguf").write_bytes(b"not a model")
    visitor.open_tab("Models")
    page.fill("#model-folder textarea, #model-folder input", str(tmp_path))
    page.click("#model-search")
    entry = page.locator("#models-found .entry", has_text="tiny-qwen3")
    expect(entry).to_contain_text("of memory")
    expect(page.locator("#models-found .entry", has_text="noise")).to_contain_text("Cannot be used:")
    entry.get_by_role("button", name="Choose tiny-qwen3").click()
    expect(page.locator("#model-memory")).to_contain_text("are free")
    expect(page.locator("#model-switch")).to_be_enabled()
    recommended = page.locator("#models-recommended")
    expect(recommended.locator(".entry").first).to_contain_text("a correction about")
    recommended.get_by_role("button", name="Download").first.click()
    expect(recommended.locator("p.problem")).to_contain_text("Hugging Face Hub")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_axe_finds_nothing_serious_in_any_tab(browser: Browser, app: App, scheme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
    try:
        visitor = Visitor(context.new_page(), app.url)
        visitor.open()
        findings = {"empty chat": serious_findings(visitor.page)}
        visitor.ask(lessons()[0].question)
        visitor.thumbs_down()
        findings["hint"] = serious_findings(visitor.page)
        visitor.page.click("#not-now")
        visitor.open_settings()
        findings["chat"] = serious_findings(visitor.page)
        visitor.ask("no, it's a quokka")
        visitor.page.get_by_label("Details").last.click()
        expect(visitor.page.locator("#chat .learn")).to_be_visible()
        findings["correction"] = serious_findings(visitor.page)
        for tab in ("Learning", "Federation", "Demo", "Models"):
            visitor.open_tab(tab)
            visitor.page.wait_for_timeout(500)
            findings[tab] = serious_findings(visitor.page)
        assert {where: found for where, found in findings.items() if found} == {}
    finally:
        context.close()
