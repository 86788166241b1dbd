"""Adapters: promoted in one piece, numbered once, taken back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from feedback_store import (
    MergeRecord,
    ProofRecord,
    Round,
    RoundFigures,
    Store,
    StoreError,
    Trace,
    TracesWithdrawn,
    UnknownRecord,
)
from tests.feedback_store.harness import BASE, StoreHarness


def claimed(store: Store, parent: int = 0) -> tuple[Round, list[Trace]]:
    claim = store.claim_round(BASE, parent)
    assert claim is not None
    return claim


def test_promotion_stores_the_adapter_and_everything_it_rests_on(store: Store, harness: StoreHarness) -> None:
    harness.talk().add("win", "lose")
    started, _ = claimed(store)
    figures, proof = RoundFigures(win_loss=0.5), ProofRecord("q", "Lyon", "Paris")
    made = store.promote(started.id, harness.adapter(1, 0), figures=figures, verdict="kept", proof=proof, replayed=7)
    assert (made.version, made.parent_version, made.round_id, made.status) == (1, 0, started.id, "kept")
    assert (made.folder, made.sha256, made.pinned) == ("adapters/v0001", "0" * 64, False)
    assert made.figures == RoundFigures(anchor_kl=0.1)
    assert store.adapter(BASE, 1) == made and store.active_version(BASE) == 1
    ended = store.round(started.id)
    assert (ended.status, ended.adapter_version, ended.replayed) == ("promoted", 1, 7)
    assert (ended.figures, ended.verdict, ended.proof) == (figures, "kept", proof)
    assert harness.statuses() == ["trained", "trained"]


def test_a_refused_promotion_changes_nothing(store: Store, harness: StoreHarness) -> None:
    harness.talk().add("win")
    harness.promoted()
    harness.talk().add("win")
    started, _ = claimed(store, 1)
    refused = [
        (StoreError, harness.adapter(1, 0)),  # the number was used
        (UnknownRecord, harness.adapter(2, 7)),  # no such parent
        (StoreError, harness.adapter(2, 0, base="base-b")),
    ]
    for error, adapter in refused:
        with pytest.raises(error):
            store.promote(started.id, adapter, figures=RoundFigures(), verdict="", proof=None, replayed=0)
    assert store.active_version(BASE) == 1 and len(store.adapters(BASE)) == 1
    assert store.round(started.id).status == "running" and harness.statuses() == ["trained", "claimed"]


def test_a_failure_at_the_last_write_undoes_the_whole_promotion(
    store: Store, harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.talk().add("win")
    started, _ = claimed(store)
    seen: list[tuple[str, int]] = []

    def fail(base: str, version: int) -> None:
        seen.append((store.round(started.id).status, store.adapter(base, version).version))
        raise RuntimeError("power cut")

    monkeypatch.setattr(store, "_activate", fail)
    with pytest.raises(RuntimeError):
        store.promote(started.id, harness.adapter(1, 0), figures=RoundFigures(), verdict="", proof=None, replayed=0)
    assert seen == [("promoted", 1)]  # making it active came after all else
    assert store.adapters(BASE) == [] and store.round(started.id).status == "running"
    assert harness.statuses() == ["claimed"]


def test_promotion_refuses_an_adapter_that_trained_on_withdrawn_feedback(store: Store, harness: StoreHarness) -> None:
    one, two = harness.talk("one"), harness.talk("two")
    one.add("win")
    two.add("win")
    started, traces = claimed(store)
    store.withdraw_traces(one.reply.id)
    args = {"figures": RoundFigures(), "verdict": "", "proof": None, "replayed": 0}
    with pytest.raises(TracesWithdrawn, match="1 of the traces"):
        store.promote(started.id, harness.adapter(1, 0), trained_ids=[t.id for t in traces], **args)
    assert store.active_version(BASE) == 0 and harness.statuses() == ["withdrawn", "claimed"]
    store.promote(started.id, harness.adapter(1, 0), trained_ids=[traces[1].id], **args)
    assert harness.statuses() == ["withdrawn", "trained"]


def test_traces_over_a_cap_are_skipped_not_called_trained(store: Store, harness: StoreHarness) -> None:
    harness.talk().add("win", "lose", "lose")
    started, traces = claimed(store)
    store.promote(
        started.id,
        harness.adapter(1, 0),
        figures=RoundFigures(),
        verdict="",
        proof=None,
        replayed=0,
        trained_ids=[t.id for t in traces[:2]],
    )
    assert harness.statuses() == ["trained", "trained", "skipped"]


def test_an_adapter_number_is_never_used_again(store: Store, harness: StoreHarness) -> None:
    assert store.next_version(BASE) == 1
    for _ in range(2):
        harness.talk().add("win")
        harness.promoted()
    store.roll_back(BASE)
    assert store.next_version(BASE) == 3 and store.next_version("base-b") == 1
    store.mark_pruned(BASE, 2)
    assert store.next_version(BASE) == 3


def test_rolling_back_returns_to_the_parent_and_marks_what_is_undone(store: Store, harness: StoreHarness) -> None:
    for question in ("one", "two"):
        harness.talk(question).add("win")
        harness.promoted()
    assert store.roll_back(BASE) == 1
    assert store.active_version(BASE) == 1
    assert [(a.version, a.status) for a in store.adapters(BASE)] == [(2, "rolled_back"), (1, "kept")]
    assert harness.statuses() == ["trained", "rolled_back"]
    assert store.roll_back(BASE) == 0
    with pytest.raises(StoreError, match="nothing to undo"):
        store.roll_back(BASE)
    assert store.claim_round(BASE, 0) is None  # rolled-back traces train again only if asked


@pytest.mark.parametrize("gone", ["", "deleted", "not learning any more"])
def test_rolled_back_traces_train_again_when_named(store: Store, harness: StoreHarness, gone: str) -> None:
    talk = harness.talk()
    talk.add("win", "lose")
    harness.promoted()
    if gone == "deleted":
        store.delete_conversation(talk.conversation_id)
    elif gone:
        store.set_learn(talk.conversation_id, False)
    store.roll_back(BASE)
    claim = store.claim_round(BASE, 0, only=[t.id for t in store.traces()])
    assert claim is not None and len(claim[1]) == 2, "it was learned before"


def test_what_may_not_be_learned_is_not_trained_though_it_is_named(store: Store, harness: StoreHarness) -> None:
    talk = harness.talk()
    talk.add("win")
    store.set_learn(talk.conversation_id, False)
    assert store.claim_round(BASE, 0, only=[t.id for t in store.traces()]) is None


def test_rolling_back_does_not_revive_what_was_withdrawn(store: Store, harness: StoreHarness) -> None:
    kept, taken_back = harness.talk("one"), harness.talk("two")
    kept.add("win")
    taken_back.add("win")
    started, _ = claimed(store)
    store.withdraw_traces(taken_back.reply.id)
    store.promote(started.id, harness.adapter(1, 0), figures=RoundFigures(), verdict="", proof=None, replayed=0)
    store.roll_back(BASE)
    assert harness.statuses() == ["rolled_back", "withdrawn"]
    claim = store.claim_round(BASE, 0, only=[t.id for t in store.traces()])
    assert claim is not None and len(claim[1]) == 1


def test_an_adapter_trained_on_top_of_an_undone_one_is_refused(store: Store, harness: StoreHarness) -> None:
    harness.talk().add("win")
    harness.promoted()
    harness.talk().add("win")
    started, _ = claimed(store, 1)
    store.roll_back(BASE)
    with pytest.raises(StoreError, match="rolled back"):
        store.promote(started.id, harness.adapter(2, 1), figures=RoundFigures(), verdict="", proof=None, replayed=0)
    assert store.active_version(BASE) == 0


def test_rolling_back_passes_over_pruned_parents(store: Store, harness: StoreHarness) -> None:
    for question in ("one", "two", "three"):
        harness.talk(question).add("win")
        harness.promoted()
    store.mark_pruned(BASE, 2)
    assert store.roll_back(BASE) == 1
    assert [a.status for a in store.adapters(BASE)] == ["rolled_back", "pruned", "kept"]
    assert harness.statuses() == ["trained", "rolled_back", "rolled_back"]  # v1 never saw the second


def test_activating_an_undone_adapter_brings_back_what_it_stands_on(store: Store, harness: StoreHarness) -> None:
    for question in ("one", "two"):
        harness.talk(question).add("win")
        harness.promoted()
    store.roll_back(BASE)
    store.roll_back(BASE)
    store.set_active(BASE, 2)
    assert store.active_version(BASE) == 2
    assert [a.status for a in store.adapters(BASE)] == ["kept", "kept"]
    assert harness.statuses() == ["trained", "trained"]


def test_only_what_exists_can_be_active(store: Store, harness: StoreHarness) -> None:
    for question in ("one", "two"):
        harness.talk(question).add("win")
        harness.promoted()
    with pytest.raises(UnknownRecord):
        store.set_active(BASE, 9)
    store.mark_pruned(BASE, 1)
    with pytest.raises(StoreError, match="pruned"):
        store.set_active(BASE, 1)
    assert store.active_version(BASE) == 2
    store.set_active(BASE, 0)
    assert store.active_version(BASE) == 0


def test_pinned_and_active_adapters_are_not_pruned(store: Store, harness: StoreHarness) -> None:
    for question in ("one", "two"):
        harness.talk(question).add("win")
        harness.promoted()
    store.set_pinned(BASE, 1, True)
    assert store.adapter(BASE, 1).pinned is True
    for version in (1, 2):
        with pytest.raises(StoreError, match="stays"):
            store.mark_pruned(BASE, version)
    store.set_pinned(BASE, 1, False)
    store.mark_pruned(BASE, 1)
    assert [a.status for a in store.adapters(BASE)] == ["kept", "pruned"]
    with pytest.raises(UnknownRecord):
        store.set_pinned(BASE, 9, True)


def test_a_merged_adapter_needs_no_round_and_can_be_taken_back(store: Store, harness: StoreHarness) -> None:
    harness.talk().add("win")
    harness.promoted()
    figures = RoundFigures(merge=MergeRecord("three peers", weights={"a": 0.5}))
    merged = store.add_adapter(replace(harness.adapter(2, 1), figures=figures))
    assert (merged.round_id, merged.figures, store.active_version(BASE)) == (None, figures, 2)
    assert store.roll_back(BASE) == 1
    assert harness.statuses() == ["trained"]


def test_what_peers_were_taught_is_stored_with_the_merge_until_it_is_forgotten(
    store: Store, harness: StoreHarness
) -> None:
    talk = harness.talk()
    talk.add("win")
    harness.promoted()
    sent = {"a": ("Where is my key?",), "b": ("Who?", "What?")}
    store.add_adapter(harness.adapter(2, 1), sent)
    assert store.peer_questions(BASE, 2) == sent and store.peer_questions(BASE, 1) == {}
    store.roll_back(BASE)
    store.restore(BASE, 2)
    store.mark_pruned(BASE, 1)
    assert store.peer_questions(BASE, 2) == sent, "undoing and pruning leave them"
    store.forget(BASE, [talk.reply.id], 0, [1, 2])
    assert store.peer_questions(BASE, 2) == {}


def test_erasing_takes_what_peers_were_taught(store: Store, harness: StoreHarness) -> None:
    store.add_adapter(harness.adapter(1, 0), {"a": ("Where is my zanzibar?",)})
    store.erase()
    assert store.peer_questions(BASE, 1) == {} and b"zanzibar" not in store.path.read_bytes()


def test_a_question_of_a_deleted_conversation_or_one_that_may_not_train_is_not_shared(
    store: Store, harness: StoreHarness
) -> None:
    deleted, closed, kept = (harness.talk(question) for question in ("one", "two", "three"))
    for talk in (deleted, closed, kept):
        talk.add("win", "lose")
    harness.promoted()
    store.delete_conversation(deleted.conversation_id)
    store.set_learn(closed.conversation_id, False)
    assert [t.prompt[-1]["content"] for t in store.shareable_wins(BASE)] == ["three"]


def test_each_base_model_has_its_own_adapters(store: Store, harness: StoreHarness) -> None:
    harness.talk().add("win")
    harness.talk().add("win", base="base-b")
    harness.promoted()
    assert store.active_version("base-b") == 0
    assert harness.promoted("base-b").version == 1
    store.roll_back(BASE)
    assert (store.active_version(BASE), store.active_version("base-b")) == (0, 1)
