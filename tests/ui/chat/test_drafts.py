"""The boxes under the talk: no click loses what was typed."""

from __future__ import annotations

from ui.chat.drafts import EDIT, HINT, Drafts


def test_a_closed_box_opens_again_with_what_was_typed() -> None:
    typed = Drafts().opened(HINT, "a").saved("starts with t", None).closed()
    assert typed.opened(HINT, "a").words() == "starts with t"


def test_each_reply_and_each_box_has_its_own_draft() -> None:
    drafts = Drafts().opened(HINT, "a").saved("of a", None).opened(HINT, "b").saved("of b", "of a box that is closed")
    drafts = drafts.opened(EDIT, "a").saved("of a", "Oslo.")
    assert drafts.opened(HINT, "a").words() == "of a"
    assert drafts.opened(HINT, "b").words() == "of b"
    assert drafts.opened(EDIT, "a").words("the reply") == "Oslo."
    assert drafts.opened(EDIT, "b").words("the reply") == "the reply"


def test_what_was_sent_is_no_draft_any_more() -> None:
    drafts = Drafts().opened(HINT, "a").saved("hint", None).sent(HINT, "a")
    assert drafts.box == "" and drafts.opened(HINT, "a").words() == ""


def test_a_field_is_filled_only_when_its_box_opens() -> None:
    opened = Drafts().opened(HINT, "a")
    assert opened.is_new
    assert not opened.saved("still typing", None).opened(HINT, "a").is_new
    assert opened.saved("x", None).opened(HINT, "b").is_new


def test_the_composer_keeps_its_words_while_an_earlier_question_is_changed() -> None:
    drafts = Drafts().rewriting("q1", "half a question").rewriting("q2", "the text of q1")
    assert (drafts.rewritten, drafts.composer) == ("q2", "half a question")
    assert drafts.rewrote() == Drafts()
