"""What the status card says in each phase."""

from __future__ import annotations

import re

import pytest

from services.views import AdapterView, LearningStatus, Proof
from ui.chat.status_card import PILLS, SHARED, StatusCard, card_html

PROOF = Proof("What is <b>it</b>?", "a bird", "a tool", 0, 1)


def stages(card: str) -> list[tuple[str, str]]:
    return re.findall(r'<li class="(\w+)">([^<]*)</li>', card)


def test_training_shows_the_step_and_how_far_it_is() -> None:
    card = card_html(LearningStatus("training", "Training.", "", step=3, max_steps=12), [])
    assert stages(card) == [("done", "Queued"), ("now", "Step 3/12"), ("next", "Checking"), ("next", "Live")]
    assert "width:25%" in card


def test_a_live_adapter_has_passed_every_stage_and_shows_its_proof() -> None:
    card = card_html(LearningStatus("live", "Live.", "Kept.", adapter_version=12, seconds=6.4, proof=PROOF), [])
    assert [state for state, _ in stages(card)] == ["done"] * 4
    assert "Live v12" in card and "It took 6 s." in card
    assert "the base model" in card and "a bird" in card and "a tool" in card


def test_a_discarded_round_stops_before_live_and_says_why() -> None:
    card = card_html(LearningStatus("not_kept", "Not kept.", "Older answers changed."), [])
    assert stages(card)[-1] == ("stopped", "Not kept")
    assert "Older answers changed." in card


@pytest.mark.parametrize("phase", sorted(PILLS))
def test_every_phase_has_a_word_and_says_who_shares_the_adapter(phase: str) -> None:
    card = card_html(LearningStatus(phase, "Headline.", "Detail."), [])
    assert f">{PILLS[phase]}</span>" in card and SHARED in card


def test_words_of_people_and_models_are_escaped() -> None:
    status = LearningStatus("live", "<i>h</i>", "<i>d</i>", proof=PROOF)
    card = card_html(status, [AdapterView(1, 0, "live", "", "<i>s</i>")])
    assert "<i>h" not in card and "<i>d" not in card and "<i>s" not in card and "<b>it" not in card


class FakeLearning:
    def __init__(self) -> None:
        self.now = LearningStatus("idle", "Nothing.", "")

    def status(self) -> LearningStatus:
        return self.now

    def adapters(self) -> list[AdapterView]:
        return []


def test_a_tick_sends_nothing_while_nothing_changed() -> None:
    class Session:
        learning = FakeLearning()

    card = StatusCard(Session())  # type: ignore[arg-type]
    shown = card.redraw()[-2]
    assert card.refresh(shown) == {"__type__": "update"}  # gr.skip()
    Session.learning.now = LearningStatus("queued", "Queued.", "")
    assert "Queued." in card.refresh(shown)[0]
