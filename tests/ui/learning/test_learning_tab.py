"""What the Learning tab's events do, on a learning service that only remembers what it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
import pytest

from services.views import AdapterView, Forgotten, LearnedView
from spear_core.errors import SpearError
from ui import errors as edge
from ui.learning import corrections as learning_tab
from ui.learning.corrections import LearningTab, forgotten_words
from ui.long_lists import PAGE_LENGTH

SKIP = {"__type__": "update"}  # gr.skip()


class FakeLearning:
    def __init__(self) -> None:
        self.entries = [
            LearnedView(f"m{i}", f"Q{i}?", "R", "W", "confirmed", "learned", 1.0, "2026-01-01T00:00:00+00:00")
            for i in range(PAGE_LENGTH + 1)
        ]
        self.versions = [AdapterView(1, 0, "live", "2026-01-01T00:00:00+00:00", "Kept.")]
        self.asked: list[Any] = []
        self.paused = False
        self.is_busy = False
        self.sees_others = False
        self.others: list[LearnedView] = []

    def learned(self, limit: int = 200) -> list[LearnedView]:
        return self.entries[:limit]

    def adapters(self) -> list[AdapterView]:
        return self.versions

    def learned_by_others(self, limit: int = 200) -> list[LearnedView]:
        return self.others[:limit]

    def restore(self, version: int) -> int:
        self.asked.append(("restore", version))
        return version

    def forget(self, message_ids: Sequence[str]) -> Forgotten:
        if self.is_busy:
            raise SpearError("A correction is being learned right now; try again when it is done.")
        self.entries = [entry for entry in self.entries if entry.message_id not in message_ids]
        return Forgotten((2, 3), 1, 1)

    def pin(self, version: int, pinned: bool) -> None:
        self.asked.append((version, pinned))


@pytest.fixture
def learning() -> FakeLearning:
    return FakeLearning()


@pytest.fixture
def tab(learning: FakeLearning) -> LearningTab:
    class Session:
        pass

    session = Session()
    session.learning = learning  # type: ignore[attr-defined]
    session.backups = None  # type: ignore[attr-defined]  # nothing here asks for them
    return LearningTab(session)  # type: ignore[arg-type]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    shown: list[str] = []
    monkeypatch.setattr(learning_tab.gr, "Info", lambda text, **more: shown.append(text))
    monkeypatch.setattr(edge.gr, "Warning", shown.append)
    return shown


def test_a_tick_sends_nothing_while_nothing_changed(tab: LearningTab, learning: FakeLearning) -> None:
    fingerprint = tab.redraw(PAGE_LENGTH)[-1]
    assert tab.refresh(fingerprint, PAGE_LENGTH) == SKIP
    learning.versions = []
    assert "the base model answers" in tab.refresh(fingerprint, PAGE_LENGTH)[1]


def test_show_more_shows_the_older_ones_too(tab: LearningTab) -> None:
    assert f"Q{PAGE_LENGTH}?" not in tab.redraw(PAGE_LENGTH)[0]
    learned, _, _, count = tab.show_more(PAGE_LENGTH)
    assert f"Q{PAGE_LENGTH}?" in learned and count == 2 * PAGE_LENGTH


def test_forgetting_shows_that_it_is_going_then_that_it_is_gone(tab: LearningTab, said: list[str]) -> None:
    first, last = tab.forget(gr.EventData(None, {"id": "m0", "backups": False}), PAGE_LENGTH)
    assert "Forgetting…" in first[0] and "Q0?" in first[0]
    assert "Q0?" not in last[0]
    assert said == [
        "Forgotten. v2 and v3 have learned from it and are deleted; v1 answers now. What 1 training had taught besides is "
        "being trained again without it."
    ]


def test_forgetting_while_paused_says_when_the_rest_is_trained_again(
    tab: LearningTab, learning: FakeLearning, said: list[str]
) -> None:
    learning.paused = True
    list(tab.forget(gr.EventData(None, {"id": "m0", "backups": False}), PAGE_LENGTH))
    assert said[0].endswith("What 1 training had taught besides will be trained again when you resume learning.")


@pytest.mark.parametrize(
    ("done", "words"),
    [
        (Forgotten(version=4), "Forgotten. No version had learned it, so the model stays as it is."),
        (
            Forgotten((1,), 0, 0),
            "Forgotten. v1 has learned from it and is deleted; the base model answers now.",
        ),
    ],
)
def test_a_forgetting_says_what_it_did(done: Forgotten, words: str) -> None:
    assert forgotten_words(done, paused=False) == words


def test_an_undone_version_can_be_restored_and_the_page_says_so(
    tab: LearningTab, learning: FakeLearning, said: list[str]
) -> None:
    tab.restore(gr.EventData(None, {"version": 1}), PAGE_LENGTH)
    assert learning.asked == [("restore", 1)] and said == ["Restored. v1 answers now."]


def test_an_owner_sees_that_others_taught_and_not_what_they_said(tab: LearningTab, learning: FakeLearning) -> None:
    learning.others = [LearnedView("g", "", "", "", "", "learned", 0.0, "2026-01-01T00:00:00+00:00", 3, "gil")]
    assert "Taught by" not in tab.redraw(PAGE_LENGTH)[0], "a guest does not see it"
    learning.sees_others = True
    shown = tab.redraw(PAGE_LENGTH)[0]
    assert "Taught by gil" in shown and "in v3" in shown and 'data-id="g"' in shown


def test_an_owner_reaches_everything_that_others_taught(tab: LearningTab, learning: FakeLearning) -> None:
    learning.entries, learning.sees_others = [], True
    learning.others = [
        LearnedView(f"g{i}", "", "", "", "", "learned", 0.0, "2026-01-01T00:00:00+00:00", 3, "gil")
        for i in range(PAGE_LENGTH + 1)
    ]
    shown, _, _ = tab.redraw(PAGE_LENGTH)
    assert f'data-id="g{PAGE_LENGTH}"' not in shown and "Show more" in shown
    shown, _, _, _ = tab.show_more(PAGE_LENGTH)
    assert f'data-id="g{PAGE_LENGTH}"' in shown and "Show more" not in shown


def test_what_cannot_be_forgotten_now_stays_and_says_why(
    tab: LearningTab, learning: FakeLearning, said: list[str]
) -> None:
    learning.is_busy = True
    frames = list(tab.forget(gr.EventData(None, {"id": "m0", "backups": False}), PAGE_LENGTH))
    assert "Q0?" in frames[-2][0] and "Forgetting…" not in frames[-2][0]
    assert frames[-1] == SKIP
    assert said == ["A correction is being learned right now; try again when it is done."]


def test_a_pin_reaches_the_service_as_it_was_clicked(tab: LearningTab, learning: FakeLearning) -> None:
    tab.pin(gr.EventData(None, {"version": 1, "pinned": True}), PAGE_LENGTH)
    assert learning.asked == [(1, True)]


def test_a_filter_shows_only_what_fits_and_says_when_nothing_does(tab: LearningTab) -> None:
    learned, _, _ = tab.filter(PAGE_LENGTH, "q7", "learned", "confirmed")
    assert "Q7?" in learned and "Q8?" not in learned
    learned, _, _ = tab.filter(PAGE_LENGTH, "", "waiting", "")
    assert "No entry matches" in learned


def test_a_filter_says_where_it_has_not_looked_through_all(tab: LearningTab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Searched" not in tab.filter(PAGE_LENGTH, "q7", "", "")[0]
    monkeypatch.setattr(learning_tab, "FILTERED", 20)
    assert "Searched among the newest 20." in tab.filter(PAGE_LENGTH, "q7", "", "")[0]
    assert "Searched" not in tab.redraw(PAGE_LENGTH)[0]
