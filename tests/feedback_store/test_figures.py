"""Figures and proofs of rounds: typed in the program, the same JSON on the disk as ever, and old rows are read."""

from __future__ import annotations

import json
import logging
import math

import pytest

from feedback_store import (
    ChangedAnswerRecord,
    GateRecord,
    MeasureSummary,
    MergeRecord,
    ProofRecord,
    RoundFigures,
    Store,
)
from feedback_store.figures import read_figures, read_proof
from tests.feedback_store.harness import BASE, StoreHarness

# As a round of the first versions with a gate of counts was stored
STORED = {
    "steps": 7, "learned": True, "win_loss": 0.5, "lose_loss": 0.0, "anchor_kl": 0.01, "seconds": 2.5, "skipped": False,
    "neighbour_kl": 0.0, "attempts": 1, "round_seconds": 3.25, "peak_bytes": 1024, "seconds_to_live": 4.5,
    "wishes": ["m1"],
    "before": {"win_logp": -2.0, "learned": 0, "confirmed": 1, "probe_kl": 0.0},
    "after": {"win_logp": -0.1, "learned": 1, "confirmed": 1, "probe_kl": 0.002},
    "gate": {
        "reason": "learned", "confirmed": 1, "learned": 1, "older": 0, "lost": 0, "checked": 3, "neighbours": 0,
        "leaks": 0, "changed_from_base": 1, "words_changed": 0.01, "kind": "",
        "changed": [{"kind": "recent", "question": "Q?", "before": "a", "after": "b", "leaks": False}],
    },
}  # fmt: skip


def test_what_was_stored_is_read_into_fields_and_written_as_it_was() -> None:
    figures = read_figures(json.dumps(STORED))
    assert figures.steps == 7 and figures.style_preferences == ("m1",) and figures.seconds_to_live == 4.5
    assert figures.after == MeasureSummary(win_logp=-0.1, learned=1, confirmed=1, probe_kl=0.002)
    assert figures.gate is not None and figures.gate.reason == "learned"
    assert figures.gate.changed == (ChangedAnswerRecord("recent", "Q?", "a", "b"),)
    assert json.loads(json.dumps(figures.to_dict())) == STORED


def test_what_an_older_version_did_not_write_is_none_and_unknown_keys_are_passed_over() -> None:
    figures = read_figures('{"steps": 3, "gate": null, "a_figure_of_the_past": {"x": 1}}')
    assert figures == RoundFigures(steps=3)
    assert read_figures("{}") == RoundFigures() and RoundFigures().to_dict() == {}
    assert read_proof('{"prompt": "q", "before": "a", "after": "b", "later": 1}') == ProofRecord("q", "a", "b")
    assert read_proof("null") is None


@pytest.mark.parametrize("text", ["[]", '{"steps": "many"}', '{"gate": {"changed": "all"}}'])
def test_a_row_that_holds_no_figures_is_named_and_keeps_nobody_from_starting(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_figures(text) == RoundFigures()
        assert read_proof('{"prompt": 1}') is None
    assert len(caplog.records) == 2


def test_an_adapters_figures_quote_nobody_and_a_rounds_are_kept(store: Store, harness: StoreHarness) -> None:
    harness.talk().add("win")
    round_, _ = store.claim_round(BASE, 0) or pytest.fail("nothing to learn")
    whole = read_figures(json.dumps(STORED))
    merged = RoundFigures(merge=MergeRecord("words", "exact", {"a": 0.5}, {"a": 1.0}, 0.25))
    assert "changed" not in whole.without_quotations().to_dict()["gate"] and merged.without_quotations() == merged
    store.finish_round(round_.id, "discarded", figures=whole, proof=ProofRecord("q", "a", "b", True, "c"))
    assert store.round(round_.id).figures == whole
    assert store.round(round_.id).proof == ProofRecord("q", "a", "b", True, "c")
    kept = store.add_adapter(harness.adapter(1, 0))
    assert kept.figures.gate is None


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_round_that_broke_its_numbers_can_be_stored(store: Store, harness: StoreHarness, broken: float) -> None:
    harness.talk().add("win")
    round_, _ = store.claim_round(BASE, 0) or pytest.fail("nothing to learn")
    measured = MeasureSummary(win_logp=broken, probe_kl=broken, learned=0)
    figures = RoundFigures(steps=3, win_loss=broken, after=measured, merge=MergeRecord(weights={"a": broken, "b": 1.0}))
    ended = store.finish_round(round_.id, "discarded", figures=figures, verdict="Not kept: the numbers broke.")
    assert ended.verdict == "Not kept: the numbers broke."
    assert ended.figures == RoundFigures(
        steps=3, after=MeasureSummary(learned=0), merge=MergeRecord(weights={"b": 1.0})
    )


def test_a_gate_that_quotes_nothing_still_counts_its_changes() -> None:
    assert GateRecord(changed=()) != GateRecord() and RoundFigures(gate=GateRecord(changed=())).to_dict() == {
        "gate": {"changed": ()}
    }
