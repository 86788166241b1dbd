"""What the status card says in each phase."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from services.views import EARLIER, AdapterView, ChangedAnswerView, LearningStatus, Phase, Proof, QueuedCorrection
from ui.chat.status_card import BUSY, PILLS, SHARED, STAGES, StatusCard, card_html

PROOF = Proof("What is <b>it</b>?", "a bird", "a tool", 0, 1)


def stages(card: str) -> list[tuple[str, str]]:
    return re.findall(r'<li class="(\w+)">([^<]*)</li>', card)


def test_training_shows_the_step_and_how_far_it_is() -> None:
    card = card_html(LearningStatus("training", "Training.", "", step=3, max_steps=12, progress=0.25), [])
    assert stages(card) == [("done", "Queued"), ("now", "Step 3"), ("next", "Checking"), ("next", "Live")]
    assert "width:25%" in card


def test_before_the_first_step_the_bar_moves_and_no_step_is_counted() -> None:
    card = card_html(LearningStatus("training", "Training.", "", step=0, max_steps=80, progress=0.1), [])
    assert "0/80" not in card and ("now", "Training") in stages(card) and "width:10%" in card


def test_waiting_says_how_long_by_this_machines_history_and_names_what_waits() -> None:
    queue = (
        QueuedCorrection("a", "What is <b>an owl</b>?", "A bird.", is_training=True),
        QueuedCorrection("", "", ""),
        *(QueuedCorrection(str(i), f"Question {i}?", "Yes.") for i in range(5)),
    )
    card = card_html(LearningStatus("training", "Training.", "", queue=queue, seconds_left=130.0), [])
    assert "About 2 minutes left" in card
    assert "What is &lt;b&gt;an owl&lt;/b&gt;?" in card and "A correction by another user" in card
    assert "Question 2?" in card and "Question 3?" not in card and "and 2 more" in card
    first = LearningStatus("training", "Training.", "", seconds_left=45.0, is_first_estimate=True)
    assert "About 45 seconds left, by this machine's speed." in card_html(first, [])
    soon = LearningStatus("training", "Training.", "", seconds_left=5.0)
    assert "A few seconds left, as long as it usually takes on this machine." in card_html(soon, [])
    assert "left" not in card_html(LearningStatus("idle", "Nothing.", "", seconds_left=130.0), [])
    late = card_html(LearningStatus("training", "Training.", "", seconds_left=0.0), [])
    assert "longer than usual" in late


@pytest.mark.parametrize("phase", get_args(Phase))
def test_the_version_in_use_is_shown_in_every_phase(phase: str) -> None:
    assert "Answering now: <b>v7</b>" in card_html(LearningStatus(phase, "", "", adapter_version=7), [])
    assert "Answering now: <b>the base model</b>" in card_html(LearningStatus(phase, "", ""), [])


def test_before_is_the_reply_that_was_corrected_and_leads_to_its_conversation() -> None:
    seen = Proof("Q?", "a bird", "a tool", 0, 1, "c-1", was_seen=True)
    card = card_html(LearningStatus("live", "Live.", "", adapter_version=1, proof=seen), [])
    assert "the reply that was corrected" in card and 'data-do="open" data-id="c-1"' in card


def test_lost_corrections_are_listed_apart_from_other_changed_answers() -> None:
    changed = (
        ChangedAnswerView("Cat?", "<Pixel>", "Tom", EARLIER, leaks=False),
        ChangedAnswerView("Sky?", "Blue.", "Grey.", "facts", leaks=False),
    )
    card = card_html(LearningStatus("live", "Live.", "", adapter_version=2, checked=40, changed=changed), [])
    lost, other = re.findall(r"<summary>(.*?)</summary><ul>(.*?)</ul>", card)
    assert lost[0] == "1 earlier correction to be practised again" and other[0] == "1 of 40 other answers changed"
    assert re.findall(r"<d[td]\b[^>]*>(.*?)</d", lost[1]) == ["The model now", "Tom", "Confirmed", "&lt;Pixel&gt;"]
    assert re.findall(r"<d[td]\b[^>]*>(.*?)</d", other[1]) == ["Before", "Blue.", "Now", "Grey."]
    marked = [folded.partition("<summary>")[0] for folded in card.split("<details")[1:]]
    assert ["neither-right" in css for css in marked] == [False, True], "nobody has confirmed that the sky is grey"
    assert "practised again" not in card_html(LearningStatus("live", "", "", checked=40, changed=changed[1:]), [])


def test_a_live_adapter_has_passed_every_stage_and_shows_its_proof() -> None:
    card = card_html(LearningStatus("live", "Live.", "Kept.", adapter_version=12, seconds=6.4, proof=PROOF), [])
    assert [state for state, _ in stages(card)] == ["done"] * 4
    assert "Live v12" in card and "It took a few seconds." in card
    assert "the base model" in card and "a bird" in card and "a tool" in card
    waiting = card_html(LearningStatus("waiting", "Waiting.", "", adapter_version=12, seconds=6.4, proof=PROOF), [])
    assert "It took" not in waiting, "that was the training before"


def test_a_discarded_round_stops_before_live_and_says_why() -> None:
    card = card_html(LearningStatus("not_kept", "Not kept.", "Older answers changed."), [])
    assert stages(card)[-1] == ("stopped", "Not kept")
    assert "Older answers changed." in card


@pytest.mark.parametrize("phase", get_args(Phase))
def test_every_phase_has_a_word_and_says_who_shares_the_adapter(phase: Phase) -> None:
    card = card_html(LearningStatus(phase, "Headline.", "Detail."), [])
    word = re.search(r'<span class="pill">([^<]*)</span>', card)
    assert word and re.fullmatch("[A-Z][a-z ]+", word[1]) and SHARED in card


def test_the_words_for_phases_are_those_of_the_phases_that_exist() -> None:
    assert set(PILLS) == set(get_args(Phase)) and set(STAGES) | BUSY <= set(PILLS)


def test_words_of_people_and_models_are_escaped() -> None:
    status = LearningStatus("live", "<i>h</i>", "<i>d</i>", proof=PROOF)
    card = card_html(status, [AdapterView(1, 0, "live", "", "<i>s</i>")])
    assert "<i>h" not in card and "<i>d" not in card and "<i>s" not in card and "<b>it" not in card


class FakeLearning:
    def __init__(self) -> None:
        self.now = LearningStatus("idle", "Nothing.", "")

    def status(self) -> LearningStatus:
        return self.now

    def adapters(self, limit: int) -> list[AdapterView]:
        return []


def test_a_tick_sends_nothing_while_nothing_changed() -> None:
    class Session:
        learning = FakeLearning()

    card = StatusCard(Session())  # type: ignore[arg-type]
    shown = card.redraw()[-2]
    assert card.refresh(shown) == {"__type__": "update"}  # gr.skip()
    Session.learning.now = LearningStatus("queued", "Queued.", "")
    assert "Queued." in card.refresh(shown)[0]
