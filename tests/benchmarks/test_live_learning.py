"""The live-learning study itself: real rounds, the same figures again, and a run that is killed and resumed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import live_learning
from benchmarks.report import DEFAULT_MODEL

SECONDS = {"seconds_to_live_p50", "seconds_to_live_p95", "round_seconds_p50"}


def study(out: Path | str, interactions: int = 3, seed: int = 3) -> dict[str, Any]:
    arguments = argparse.Namespace(
        model=DEFAULT_MODEL, threads=1, seed=seed, preset="live", noise=0.0, set=["anchor_pool=64"], interactions=interactions, out=str(out)
    )  # fmt: skip
    return {k: v for k, v in live_learning.run(arguments).items() if k not in SECONDS}


@pytest.fixture(autouse=True, scope="module")
def few_questions() -> Iterator[None]:
    questions = live_learning.retention_questions()[::25]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_learning, "retention_questions", lambda: questions)
        patch.setattr(live_learning, "CHECKPOINT_EVERY", 2)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, Any]:
    return study(folder)


@pytest.mark.slow
def test_a_study_repeats_exactly_also_when_it_was_stopped_and_resumed(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


@pytest.mark.slow
@pytest.mark.usefixtures("whole")
def test_a_folder_of_another_study_is_not_continued(folder: Path) -> None:
    with pytest.raises(SystemExit, match="other settings"):
        study(folder, seed=4)


def test_the_stream_meets_each_fact_three_times_in_different_wordings() -> None:
    import random

    met = live_learning.stream(30, random.Random(1))
    wordings: dict[str, set[str]] = {}
    for fact, wording in met:
        assert fact.half_known
        wordings.setdefault(fact.key, set()).add(wording)
    assert len(wordings) == 10 and all(len(w) == 3 for w in wordings.values())
