"""What the chat shows of a message, and which message an event is about."""

from __future__ import annotations

import pytest

from services.views import MessageView
from ui import messages as m


def message(message_id: str, role: str = "assistant", text: str = "words", **more: object) -> MessageView:
    return MessageView(message_id, "c", role, str(more.pop("kind", "message")), text, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a < b & c", "a &lt; b &amp; c"),
        ("![x](http://elsewhere/x.png)", "!\\[x](http://elsewhere/x.png)"),
        ("use `a < b` here", "use `a < b` here"),
        ("```\n<b>\n```\n<b>", "```\n<b>\n```\n&lt;b&gt;"),
    ],
)
def test_html_and_pictures_stay_text_and_code_stays_code(typed: str, shown: str) -> None:
    assert m.as_text(typed) == shown


def test_an_event_finds_its_message_in_the_list_the_browser_showed() -> None:
    shown_when_clicked = m.chat_value([message("u", "user"), message("a")])
    stored_now = [message("new", "user"), message("u", "user"), message("a")]
    assert m.message_id_at(shown_when_clicked, 1) == "a"
    assert m.find(stored_now, m.message_id_at(shown_when_clicked, [1, 0])) == stored_now[2]


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_outside_the_list_is_nobody(index: int) -> None:
    assert m.message_id_at(m.chat_value([message("a")]), index) is None


def test_only_a_finished_open_revision_has_the_two_buttons() -> None:
    open_one = message("r", kind="revision", can_be_judged=True)
    growing = message("g", kind="revision", can_be_judged=True, complete=False)
    done = message("d", kind="revision", verdict="better")
    shown = m.chat_value([open_one, growing, done])
    assert [option["label"] for option in shown[0]["options"]] == ["Better", "Still wrong"]
    assert [m.read_option(option["value"]) for option in shown[0]["options"]] == [("better", "r"), ("still_wrong", "r")]
    assert "options" not in shown[1] and "options" not in shown[2]
    assert shown[0]["content"].startswith("###### Revision\n")
    assert shown[2]["content"].startswith("###### Revision · confirmed\n")


@pytest.mark.parametrize("value", ["better", "better:", "best:id", ""])
def test_an_option_that_the_page_never_made_is_refused(value: str) -> None:
    with pytest.raises(ValueError):
        m.read_option(value)


def test_thumbs_show_votes_and_verdicts_of_the_assistant_messages_in_order() -> None:
    said = [message("u", "user"), message("a", vote=-1), message("r", kind="revision", verdict="better"), message("b")]
    assert m.feedback_value(said) == ["Dislike", "Like", None]


def test_the_quote_is_escaped_and_shortened() -> None:
    assert m.quote("<b>") == "<blockquote>&lt;b&gt;</blockquote>"
    assert m.quote("word " * 100).endswith("…</blockquote>")
