"""Peers as processes that teach each other: what is counted, and a study that goes on where it was left."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.real_circle import run, syncs_needed
from benchmarks.real_circle_peer import Peer
from services.peers.merging import NOTHING_NEW
from services.peers.views import MergeView


def asked(out: Path, syncs: int, **changes: Any) -> argparse.Namespace:
    """The pocket model stands in here for the real one: two peers, a fact each."""
    values = {"model": "pocket", "facts": 1, "peers": 2, "seed": 7, "threads": 1, "methods": ["fedavg"], "unrelated": 2}
    values["share_questions"] = True
    return argparse.Namespace(out=str(out), syncs=syncs, **{**values, **changes})


@pytest.mark.slow
def test_two_peers_sync_and_a_study_goes_on_after_its_last_whole_sync(tmp_path: Path) -> None:
    (before,) = run(asked(tmp_path, 0))["by_method"]["fedavg"]
    assert before["sync"] == 0 and before["bytes"] == 0
    found = run(asked(tmp_path, 1))
    again, after = found["by_method"]["fedavg"]
    assert found["taught"] == [1, 1] and again == before
    assert after["sync"] == 1 and after["merged"] + after["refused"] >= 1, after["words"]
    assert after["bytes"] >= after["update_bytes"] > 10_000  # what one peer offered went to the other at least once
    assert json.loads((tmp_path / "figures.json").read_text()) == found
    with pytest.raises(SystemExit, match="other settings"):
        run(asked(tmp_path, 2, facts=2))
    with pytest.raises(SystemExit, match="other settings"):
        run(asked(tmp_path, 2, share_questions=False))


@pytest.mark.parametrize(("words", "merged"), [(NOTHING_NEW, None), ("Not kept: it lost an answer.", False)])
def test_a_sync_that_found_nothing_new_was_not_refused(words: str, merged: bool | None) -> None:
    merges: list[MergeView] = []
    peer = object.__new__(Peer)
    peer.app = SimpleNamespace(  # type: ignore[assignment]
        sync=SimpleNamespace(
            view=lambda: SimpleNamespace(merges=tuple(merges), peers=()),
            sync=lambda: merges.append(MergeView("", words, None, [])),
            latest=lambda: None,
        )
    )
    assert peer.sync()["merged"] is merged


def test_a_sync_is_enough_only_where_every_bar_holds() -> None:
    good = {"own": 0.9, "peers": 0.7, "neighbour_leak": 0.1, "answers_changed": 0.1}
    found = [
        {"sync": i, **good, **changes} for i, changes in enumerate([{"peers": 0.5}, {"neighbour_leak": 0.2}, {}, {}])
    ]
    assert syncs_needed(found) == 2
    assert syncs_needed(found[:2]) is None
