"""What the base model made of a correction's question is kept with the correction, and goes with it."""

from __future__ import annotations

import pytest

from feedback_store import ChangedAnswerRecord, GateRecord, ProofRecord, RoundFigures, UnknownRecord
from tests.feedback_store.harness import BASE, StoreHarness

MADE = [{"question": "What is the name of my dog?", "answer": "I do not know your dog."}]


def test_neighbours_come_back_as_they_were_kept_and_an_empty_list_is_remembered(harness: StoreHarness) -> None:
    store, talk = harness.store, harness.talk()
    first, second = talk.add("win", "lose")
    store.keep_neighbours(first.id, MADE)
    store.keep_neighbours(second.id, [])
    assert store.kept_neighbours([first.id, second.id, "another"]) == {first.id: MADE, second.id: []}
    store.keep_neighbours(first.id, [])
    assert store.kept_neighbours([first.id]) == {first.id: []}
    with pytest.raises(UnknownRecord):
        store.keep_neighbours("another", MADE)


def test_forgetting_a_correction_erases_the_questions_made_for_it(harness: StoreHarness) -> None:
    store, talk, other = harness.store, harness.talk(), harness.talk()
    gone, kept = talk.add("win")[0], other.add("win")[0]
    for trace in (gone, kept):
        store.keep_neighbours(trace.id, MADE)
    store.forget(BASE, [talk.reply.id], 0, [])
    assert store.kept_neighbours([gone.id, kept.id]) == {kept.id: MADE}


def test_erasing_everything_leaves_none(harness: StoreHarness) -> None:
    trace = harness.talk().add("win")[0]
    harness.store.keep_neighbours(trace.id, MADE)
    harness.store.erase()
    assert harness.store._value("SELECT count(*) FROM neighbours", []) == 0  # the trace is gone too


def test_forgetting_erases_what_rounds_quoted_since_then_and_keeps_their_figures(harness: StoreHarness) -> None:
    store, talks = harness.store, [harness.talk(), harness.talk(), harness.talk()]
    question = "What is my PIN?"
    gate = GateRecord(checked=3, changed=(ChangedAnswerRecord(question=question),))
    quoted, proof = RoundFigures(win_loss=0.5, gate=gate), ProofRecord(question, "", "")
    for talk in talks:
        talk.add("win")
        claim = store.claim_round(BASE, store.active_version(BASE))
        assert claim is not None
        store.finish_round(claim[0].id, "promoted", figures=quoted, proof=proof)
    store.forget_words_of_rounds([BASE], [talks[1].reply.id])
    store.forget(BASE, [talks[1].reply.id], 0, [])
    last, second, first = store.rounds(BASE)
    assert first.proof is not None and first.figures == quoted
    for later in (second, last):
        assert later.proof is None and later.figures == RoundFigures(win_loss=0.5, gate=GateRecord(checked=3))
