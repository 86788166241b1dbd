"""What the Learning tab says about what was learned and about the adapters."""

from __future__ import annotations

import dataclasses
import re
from html import unescape
from typing import get_args

import pytest

from feedback_store.records import SOURCES as STORED_SOURCES
from services.views import AdapterView, LearnedStatus, LearnedView, VersionStatus
from ui.learning.lists import ADAPTER_STATUS, LEARNED_STATUS, SOURCES, UNDO, adapters_html, learned_html, others_html

TIME = "2026-03-04T05:06:07.000008+00:00"
ENTRY = LearnedView(
    "id-1", "What is an owl?", "An owl is a bird.", "An owl is a tool.", "confirmed", "learned", 1.0, TIME
)
ADAPTER = AdapterView(3, 2, "live", TIME, "Kept: the correction is learned.", 1, 2)


def entries(count: int) -> list[LearnedView]:
    return [dataclasses.replace(ENTRY, message_id=f"id-{i}") for i in range(count)]


def words(shown: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", shown)).split())


def buttons(shown: str) -> list[str]:
    return [words(button) for button in re.findall(r"<button.*?</button>", shown)]


def test_an_entry_says_question_both_answers_source_status_and_time() -> None:
    said = words(learned_html([ENTRY]))
    for part in (ENTRY.question, ENTRY.right, ENTRY.wrong, "Confirmed revision", "learned", "04 Mar 2026, 05:06 UTC"):
        assert part in said


def test_an_entry_is_found_again_by_the_id_its_button_carries() -> None:
    assert re.findall(r'data-do="ask" data-id="([^"]+)"', learned_html(entries(3))) == ["id-0", "id-1", "id-2"]


def test_a_like_has_no_rejected_answer_and_a_complaint_no_right_one() -> None:
    like = words(learned_html([dataclasses.replace(ENTRY, wrong="", source="liked")]))
    assert "Rejected" not in like and "Liked An owl is a bird." in like
    complaint = words(learned_html([dataclasses.replace(ENTRY, right="", source="no_hint", confidence=0.5)]))
    assert "Right" not in complaint and "Rejected An owl is a tool." in complaint and "counts for 50 %" in complaint


@pytest.mark.parametrize("field", ["message_id", "question", "right", "wrong", "source", "status"])
def test_nothing_a_person_typed_becomes_markup(field: str) -> None:
    typed = "\"'><img src=x onerror='window.hit=1'>"
    shown = learned_html([dataclasses.replace(ENTRY, **{field: typed})])  # type: ignore[arg-type]
    assert "<img" not in shown and "'window" not in shown


def test_the_words_of_the_gate_are_escaped() -> None:
    assert "<i>" not in adapters_html([dataclasses.replace(ADAPTER, summary="<i>kept</i>")])


def test_nothing_learned_yet_says_how_to_begin() -> None:
    said = words(learned_html([]))
    assert "thumbs-down" in said and "Better" in said and "Forget" not in said
    assert "the base model answers" in words(adapters_html([]))


def test_a_long_list_shows_its_newest_and_offers_more() -> None:
    shown = learned_html(entries(4), count=3)
    assert 'data-id="id-2"' in shown and 'data-id="id-3"' not in shown
    assert buttons(shown)[-1] == "Show more"
    assert "Show more" not in buttons(learned_html(entries(3), count=3))
    assert buttons(adapters_html([ADAPTER, ADAPTER], count=1)).count("Show more") == 1
    assert buttons(others_html(entries(4), count=3)) == [*["Forget"] * 3, "Show more"]
    assert "Show more" not in buttons(others_html(entries(3), count=3))


def test_the_entry_that_is_being_forgotten_cannot_be_clicked_again() -> None:
    assert buttons(learned_html(entries(2), going="id-1")) == ["Forget", "Forgetting…"]


def test_every_stored_source_has_plain_words() -> None:
    assert set(SOURCES) == set(STORED_SOURCES)


def test_every_status_has_plain_words() -> None:
    assert set(LEARNED_STATUS) == set(get_args(LearnedStatus))
    assert set(ADAPTER_STATUS) == set(get_args(VersionStatus))


@pytest.mark.parametrize("status", sorted(LEARNED_STATUS))
def test_a_status_of_two_words_is_one_css_class(status: str) -> None:
    shown = learned_html([dataclasses.replace(ENTRY, status=status)])
    assert f'class="pill {status.replace(" ", "-")}"' in shown and LEARNED_STATUS[status] in shown


def test_an_adapter_says_what_it_stands_on_what_it_learned_and_what_the_gate_said() -> None:
    said = words(adapters_html([ADAPTER, dataclasses.replace(ADAPTER, version=1, parent_version=0, status="kept")]))
    assert "v3 live Kept: the correction is learned." in said
    assert "1 right answer, 2 rejected · on top of v2" in said
    assert "on top of the base model" in said


def test_only_the_live_adapter_can_be_undone_and_a_deleted_one_not_even_pinned() -> None:
    kept, deleted = (dataclasses.replace(ADAPTER, status=status) for status in ("kept", "pruned"))
    assert buttons(adapters_html([ADAPTER])) == [UNDO, "Pin"]
    assert buttons(adapters_html([kept])) == ["Pin"]
    undone = dataclasses.replace(ADAPTER, status="rolled_back")
    assert buttons(adapters_html([undone])) == ["Restore", "Pin"]
    assert buttons(adapters_html([deleted])) == []


def test_the_pin_button_carries_what_it_would_do() -> None:
    assert 'data-version="3" data-pinned="true"' in adapters_html([ADAPTER])
    pinned = adapters_html([dataclasses.replace(ADAPTER, pinned=True)])
    assert 'data-version="3" data-pinned="false"' in pinned and buttons(pinned)[-1] == "Unpin"


@pytest.mark.parametrize(("drift", "shown"), [(0.0, "0 %"), (0.0004, "less than 0.1 %"), (0.057, "5.7 %")])
def test_a_small_change_is_not_called_none(drift: float, shown: str) -> None:
    html = adapters_html([dataclasses.replace(ADAPTER, drift=drift)])
    assert f"{shown} of the words in other answers changed" in html
