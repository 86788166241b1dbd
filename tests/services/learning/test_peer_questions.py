"""What peers were taught, along the lineage of a version: known, or not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from feedback_store import MergeRecord, RoundFigures, Store
from services.learning.peer_questions import CONSOLIDATED, after_merge, of_version, to_publish, together
from tests.feedback_store.conftest import harness, path, store  # noqa: F401 (fixtures)
from tests.feedback_store.harness import BASE, StoreHarness

ME, ANN, BEN = "me", "ann", "ben"
KEY, CAT = ("Where is my key?",), ("What is my cat called?",)


@pytest.fixture
def taught(harness: StoreHarness) -> StoreHarness:  # noqa: F811
    harness.talk("Where is my car?").add("win")
    harness.promoted()
    return harness


def adopt(harness: StoreHarness, sent: dict[str, tuple[str, ...]] | None = None, **figures: object) -> int:  # noqa: F811
    """A version on top of the active one that no round made."""
    base_store = harness.store
    version, parent = base_store.next_version(BASE), base_store.active_version(BASE)
    made = RoundFigures(**figures)  # type: ignore[arg-type]
    base_store.add_adapter(replace(harness.adapter(version, parent), figures=made), sent)
    return version


def merged_with(*peers: str) -> MergeRecord:
    return MergeRecord("words", "fedavg", dict.fromkeys((ME, *peers), 0.5))


def test_without_a_merge_peers_were_taught_nothing(taught: StoreHarness) -> None:
    assert of_version(taught.store, BASE, 1) == {} == of_version(taught.store, BASE, 0)


def test_a_merge_says_what_it_is_for_and_so_does_what_is_learned_on_top_of_it(taught: StoreHarness) -> None:
    adopt(taught, {ANN: KEY}, merge=merged_with(ANN))
    taught.talk("Who?").add("win")
    taught.promoted()
    adopt(taught, source=CONSOLIDATED)
    assert of_version(taught.store, BASE, 4) == of_version(taught.store, BASE, 2) == {ANN: KEY}
    assert of_version(taught.store, BASE, 1) == {}


@pytest.mark.parametrize("figures", [{"merge": merged_with(ANN)}, {"source": "uploaded"}, {}])
def test_what_came_without_questions_is_meant_for_everything(taught: StoreHarness, figures: dict[str, object]) -> None:
    version = adopt(taught, None, **figures)
    assert of_version(taught.store, BASE, version) is None
    assert to_publish(taught.store, BASE, version) == ()


def test_a_preference_of_style_is_meant_for_everything_and_is_published_without_questions(taught: StoreHarness) -> None:
    version = adopt(taught, source=CONSOLIDATED, style_preferences=("m1",))
    assert of_version(taught.store, BASE, version) is None
    assert to_publish(taught.store, BASE, version) == ()
    assert after_merge(taught.store, BASE, version, ME, {ANN: KEY}) is None


def test_a_merge_is_known_where_every_peer_that_counts_sent_its_questions(store: Store, taught: StoreHarness) -> None:  # noqa: F811
    assert after_merge(store, BASE, 1, ME, {ANN: KEY, BEN: CAT}) == {ANN: KEY, BEN: CAT}
    assert after_merge(store, BASE, 1, ME, {ANN: KEY, BEN: ()}) is None
    assert after_merge(store, BASE, 1, ME, {}) is None


def test_what_a_peer_sent_last_takes_the_place_of_what_it_sent_before(store: Store, taught: StoreHarness) -> None:  # noqa: F811
    version = adopt(taught, {ANN: KEY, BEN: CAT}, merge=merged_with(ANN, BEN))
    assert after_merge(store, BASE, version, ME, {ANN: ("Who am I?",)}) == {ANN: ("Who am I?",), BEN: CAT}


def test_a_peer_merged_without_questions_is_made_up_for_once_it_sends_some(store: Store, taught: StoreHarness) -> None:  # noqa: F811
    version = adopt(taught, None, merge=merged_with(ANN))
    assert after_merge(store, BASE, version, ME, {BEN: CAT}) is None
    assert after_merge(store, BASE, version, ME, {ANN: KEY}) == {ANN: KEY}
    version = adopt(taught, {ANN: KEY}, merge=merged_with(ANN))
    assert after_merge(store, BASE, version, ME, {BEN: CAT}) == {ANN: KEY, BEN: CAT}
    version = adopt(taught, source="uploaded")
    assert after_merge(store, BASE, version, ME, {ANN: KEY, BEN: CAT}) is None, "nobody knows what an upload is for"


def test_of_too_many_questions_the_newest_of_every_peer_are_taken_in_turn() -> None:
    flood = [f"flood {i}" for i in range(1000)]
    found = together({ANN: flood, BEN: ["b1", "b2", "flood 999"]}, most=6)
    assert set(found) == {"flood 999", "flood 998", "flood 997", "b2", "b1", "flood 996"} and len(found) == 6
    assert together({}) == []


def test_ones_own_and_the_peers_questions_are_published_ones_own_as_the_latest(taught: StoreHarness) -> None:
    version = adopt(taught, {ANN: (*KEY, "Where is my car?")}, merge=merged_with(ANN))
    assert to_publish(taught.store, BASE, version) == (*KEY, "Where is my car?")
    assert to_publish(taught.store, BASE, 0) == ()


def test_a_question_that_leans_on_the_one_before_it_is_published_with_it(harness: StoreHarness) -> None:  # noqa: F811
    talk = harness.talk("And its capital?")
    prompt = [
        {"role": "user", "content": "Where is Ruritania?"},
        {"role": "assistant", "content": "Nowhere."},
        {"role": "user", "content": "And its capital?"},
    ]
    harness.store.add_traces([replace(talk.trace(), prompt=prompt)])
    harness.promoted()
    assert to_publish(harness.store, BASE, 1) == ("Where is Ruritania? And its capital?",)


def test_a_question_of_a_deleted_conversation_is_not_published_though_a_peer_sends_it_back(
    harness: StoreHarness,  # noqa: F811
) -> None:
    talk = harness.talk("Where is my car?")
    talk.add("win")
    harness.promoted()
    version = adopt(harness, {ANN: (*KEY, "Where is my car?")}, merge=merged_with(ANN))
    harness.store.delete_conversation(talk.conversation_id)
    assert to_publish(harness.store, BASE, version) == KEY
