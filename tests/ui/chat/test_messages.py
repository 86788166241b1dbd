"""What the chat shows of a message: its buttons, its versions, its votes."""

from __future__ import annotations

import re

import pytest

from services.views import FROM_MEMORY, MessageView
from ui.chat import messages as m


def message(message_id: str, role: str = "assistant", text: str = "words", **more: object) -> MessageView:
    return MessageView(message_id, "c", role, str(more.pop("kind", "message")), text, **more)  # type: ignore[arg-type]


def buttons(row: str) -> list[str]:
    return re.findall(r'data-do="([a-z-]+)"', row)


def test_what_a_person_typed_is_text() -> None:
    assert "&lt;img src=x onerror=1&gt;" in m.row(message("u", "user", "<img src=x onerror=1>"))
    assert "<img" not in m.row(message("a", text="<img src=x onerror=1>"))


def test_only_a_finished_open_revision_asks_for_a_verdict() -> None:
    open_one = m.row(message("r", kind="revision", can_be_judged=True))
    assert re.findall(r'data-value="(\w+)"', open_one) == ["better", "still_wrong"]
    assert "Revision<" in open_one and "vote" not in buttons(open_one)
    assert buttons(m.row(message("g", kind="revision", can_be_judged=True, complete=False))) == []
    assert "Write it myself" in m.row(message("r", kind="revision", can_be_judged=True, can_be_written=True))
    done = m.row(message("d", kind="revision", verdict="better"))
    assert "Revision · confirmed" in done and "judge" not in buttons(done)


@pytest.mark.parametrize(
    ("view", "labels"),
    [
        (message("a"), ["Like", "Dislike"]),
        (message("a", vote=1), ["Liked", "Dislike"]),
        (message("a", vote=-1), ["Like", "Disliked"]),
        (message("r", kind="revision", verdict="better"), ["Liked", "Dislike"]),
        (message("e", kind="edit"), []),
    ],
)
def test_the_thumbs_show_the_stored_vote_and_the_persons_own_words_have_none(
    view: MessageView, labels: list[str]
) -> None:
    assert re.findall(r'aria-label="((?:Dis|L)\w*like\w*|Liked?)"', m.row(view)) == labels


def test_a_wrong_reply_offers_what_can_be_done_next() -> None:
    open_one = m.row(message("a", vote=-1, can_be_hinted=True, can_be_written=True))
    assert "Give a hint" in open_one and "Write it myself" in open_one
    no_tries_left = m.row(message("a", vote=-1, can_be_written=True))
    assert "Give a hint" not in no_tries_left and "Write it myself" in no_tries_left


def test_an_answer_from_memory_is_marked_without_being_pointed_at() -> None:
    remembered = m.row(message("m1", "assistant", "Pixel.", complete=True, adapter_version=FROM_MEMORY))
    assert re.search(
        r'<span class="made-by memory" title="The answer as it was confirmed[^"]*">from memory<', remembered
    )
    learned = m.row(message("m1", "assistant", "Pixel.", complete=True, adapter_version=3))
    assert '<span class="made-by" title="The version that wrote this reply">v3<' in learned


def test_a_pressed_thumb_takes_the_vote_back() -> None:
    assert 'data-value="0" aria-label="Disliked"' in m.row(message("a", vote=-1))
    assert 'data-value="-1" aria-label="Dislike"' in m.row(message("a"))


def test_a_question_that_was_changed_leads_to_its_other_versions() -> None:
    middle = m.row(message("b", "user", versions=("a", "b", "c")))
    assert "2/3" in middle
    assert re.findall(r'data-do="branch" data-id="(\w)"', middle) == ["a", "c"]
    assert "branch" not in buttons(m.row(message("a", "user", versions=("a",))))


def test_what_is_not_stored_yet_has_a_key_and_no_buttons() -> None:
    shown = m.chat_value([message("", "user"), message("", text="", complete=False)], "c")
    assert shown["busy"] and shown["of"] == "c"
    assert len({row["key"] for row in shown["rows"]}) == 2
    assert all(buttons(row["html"]) == [] for row in shown["rows"])


def test_a_vote_sends_the_row_that_changed_and_says_what_it_builds_on() -> None:
    before = [message("q", "user"), *(message(str(i)) for i in range(5))]
    after = [*before[:3], message("2", vote=1), *before[4:]]
    change = m.chat_change(before, after, "c")
    assert [row["key"] for row in change["rows"]] == ["2"]
    assert change["after"] == m.chat_value(before, "c")["state"] != change["state"] == m.chat_value(after, "c")["state"]


def test_where_rows_came_or_went_everything_is_sent() -> None:
    before = [message("q", "user"), message("a")]
    for after in ([*before, message("b")], before[:1], before[::-1]):
        assert m.chat_change(before, after, "c") == m.chat_value(after, "c")
    assert "after" not in m.chat_change([], before, "c")


def test_the_quote_is_escaped_and_shortened() -> None:
    assert m.quote("<b>") == "<blockquote>&lt;b&gt;</blockquote>"
    assert m.quote("word " * 100).endswith("…</blockquote>")


@pytest.mark.parametrize(
    ("ending", "sentence"),
    [("length", "Cut off at the longest reply"), ("stopped", "Stopped before"), ("lost", "Interrupted before")],
)
def test_a_reply_that_did_not_end_by_itself_says_so_and_can_be_continued(ending: str, sentence: str) -> None:
    row = m.row(message("a", ending=ending, can_go_on=True))
    assert sentence in row and "Nothing is learned from it until it is complete." in row
    assert "go_on" in re.findall(r'data-do="([a-z_]+)"', row)
    assert "go_on" not in m.row(message("a", ending=ending)), "only where it is the last reply"
    assert 'class="cut"' not in m.row(message("a", ending="ended"))
    assert 'class="cut"' not in m.row(message("a", ending=ending, can_go_on=True, complete=False))
