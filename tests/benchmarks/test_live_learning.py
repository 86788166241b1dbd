"""The live-learning study itself: real rounds, the same figures again, and a run that is killed and resumed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from benchmarks import live_learning
from benchmarks.report import DEFAULT_MODEL

SECONDS = {"seconds_to_live_p50", "seconds_to_live_p95", "round_seconds_p50"}


def study(out: Path | str, interactions: int = 3, seed: int = 3) -> dict[str, Any]:
    arguments = argparse.Namespace(
        model=DEFAULT_MODEL, threads=1, seed=seed, preset="live", noise=0.0, set=[], interactions=interactions, out=str(out)
    )  # fmt: skip
    return {k: v for k, v in live_learning.run(arguments).items() if k not in SECONDS}


@pytest.fixture(autouse=True)
def few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = live_learning.retention_questions()[::25]
    monkeypatch.setattr(live_learning, "retention_questions", lambda: questions)
    monkeypatch.setattr(live_learning, "CHECKPOINT_EVERY", 2)


def test_a_study_repeats_exactly_also_when_it_was_stopped_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = study(tmp_path / "whole")
    assert whole["interactions"] == 3 and whole["corrections"] >= 1 and whole["learned_same"] > 0

    meet = live_learning.Study.meet

    def stop_at_the_third(self: Any, number: int, *parts: Any) -> None:
        if number == 2:
            raise KeyboardInterrupt
        meet(self, number, *parts)

    monkeypatch.setattr(live_learning.Study, "meet", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "stopped")
    monkeypatch.setattr(live_learning.Study, "meet", meet)
    assert study(tmp_path / "stopped") == whole


def test_a_folder_of_another_study_is_not_continued(tmp_path: Path) -> None:
    study(tmp_path, interactions=2)
    with pytest.raises(SystemExit, match="other settings"):
        study(tmp_path, interactions=2, seed=4)


def test_the_stream_meets_each_fact_three_times_in_different_wordings() -> None:
    import random

    met = live_learning.stream(30, random.Random(1))
    wordings: dict[str, set[str]] = {}
    for fact, wording in met:
        assert fact.half_known
        wordings.setdefault(fact.key, set()).add(wording)
    assert len(wordings) == 10 and all(len(w) == 3 for w in wordings.values())
