"""Forgetting in the store: what goes, what serves then, and how the rest is claimed again."""

from __future__ import annotations

import pytest

from feedback_store import Store, UnknownRecord
from tests.feedback_store.harness import BASE, StoreHarness


def test_forgetting_erases_votes_hints_verdicts_and_traces_and_undoes_what_saw_them(
    store: Store, harness: StoreHarness
) -> None:
    first, second = harness.talk("Capital of France?"), harness.talk("Capital of Italy?")
    first.add("win", "lose")
    store.set_vote(first.reply.id, -1)
    store.add_hint(first.reply.id, "it starts with p")
    harness.promoted()
    kept = second.add("win")
    store.set_vote(second.reply.id, -1)
    harness.promoted()

    store.forget(BASE, [first.reply.id], active=0, undone=[1, 2])

    assert store.active_version(BASE) == 0
    assert {a.version: a.status for a in store.adapters(BASE)} == {1: "pruned", 2: "pruned"}
    assert [t.id for t in store.traces()] == [kept[0].id]
    assert store.traces()[0].status == "rolled_back"
    assert store.vote(first.reply.id) == 0 and store.hints_of(first.reply.id) == []
    assert store.vote(second.reply.id) == -1
    assert not [e for e in store.events() if e.message_id == first.reply.id and e.data]


def test_what_was_rolled_back_is_claimed_only_by_name(store: Store, harness: StoreHarness) -> None:
    first, second = harness.talk("Capital of France?"), harness.talk("Capital of Italy?")
    one = first.add("win")
    harness.promoted()
    store.forget(BASE, [], active=0, undone=[1])
    two = second.add("win")
    claim = store.claim_round(BASE, 0, only=[one[0].id])
    assert claim is not None
    assert [t.id for t in claim[1]] == [one[0].id]
    assert store.traces(status="pending")[0].id == two[0].id
    assert store.claim_round(BASE, 0, only=[one[0].id]) is None, "nothing is claimed twice"


def test_the_lineage_runs_from_the_newest_to_the_first(store: Store, harness: StoreHarness) -> None:
    for question in ("Capital of France?", "Capital of Italy?"):
        harness.talk(question).add("win")
        harness.promoted()
    assert [a.version for a in store.lineage(BASE, 2)] == [2, 1]
    assert store.lineage(BASE, 0) == []
    with pytest.raises(UnknownRecord):
        store.lineage(BASE, 9)


def test_what_a_round_taught_is_told_without_what_is_to_be_forgotten(store: Store, harness: StoreHarness) -> None:
    kept, forgotten, deleted = harness.talk("one"), harness.talk("two"), harness.talk("three")
    pair, _, [gone] = kept.add("win", "lose"), forgotten.add("win"), deleted.add("lose")
    round_id = harness.promoted().round_id
    harness.talk("four").add("win")
    harness.promoted()
    store.delete_conversation(deleted.conversation_id)
    assert round_id is not None
    left = store.taught_in(round_id, besides=[forgotten.reply.id])
    assert left == [(pair[0].id, "win"), (pair[1].id, "lose"), (gone.id, "lose")]
    assert len(store.taught_in(round_id)) == 4
    store.forget(BASE, [], active=0, undone=[1, 2])
    assert store.taught_in(round_id) == [], "rolled back, it is not what the round taught any more"


def test_replies_made_after_a_time_are_no_anchors_of_that_time(store: Store, harness: StoreHarness) -> None:
    early = harness.talk("Capital of France?")
    late = harness.talk("Capital of Italy?")
    both = {reply.id for _, reply in store.unobjected_replies(10, 1)}
    before = {reply.id for _, reply in store.unobjected_replies(10, 1, before_utc=late.reply.created_at_utc)}
    assert both == {early.reply.id, late.reply.id} and before == {early.reply.id}


def test_events_can_be_asked_for_by_kind(store: Store, harness: StoreHarness) -> None:
    talk = harness.talk()
    store.set_vote(talk.reply.id, 1)
    store.add_event("judged", talk.reply.id, {"gain": 1.0})
    assert [e.kind for e in store.events(kind="judged")] == ["judged"]
    assert len(store.events()) > 1
