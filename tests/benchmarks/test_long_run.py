"""The long run at a small size: two real corrections, stopped and resumed; the user who changes their mind."""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from benchmarks import long_run
from benchmarks.report import DEFAULT_MODEL


def study(out: Path, corrections: int) -> dict[str, Any]:
    return long_run.run(
        argparse.Namespace(model=DEFAULT_MODEL, threads=1, seed=1, corrections=corrections, out=str(out))
    )


@pytest.mark.slow
def test_two_corrections_are_learned_measured_and_drawn_also_when_the_run_was_stopped_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = long_run.retention_questions()[::25]
    monkeypatch.setattr(long_run, "retention_questions", lambda: questions)
    study(tmp_path, 1)
    with (tmp_path / "progress.jsonl").open("a") as file:
        file.write('{"fact": "half a line')  # what a kill may leave
    found = study(tmp_path, 2)
    lines = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    done = [line for line in lines if line["corrected"]]
    assert found["corrections"] == len(done) == 2 and found["parts"] == [1, 1]
    assert [line["versions_made"] for line in done] == sorted(line["versions_made"] for line in done)
    assert found["versions_made"] >= 1 and found["learned"] > 0
    assert all(line["rss_mib"] > 100 and line["disk_mib"] > 0.1 and line["seconds"] > 0 for line in done)
    assert [point["corrections"] for point in found["accuracy"]] == [0, 1, 2]
    assert found["accuracy"][-1]["own"] > 0 and found["accuracy"][0]["retention"] > 0.9
    assert "corrections" in (tmp_path / "long_run.svg").read_text()


def test_the_user_first_wants_the_truth_and_then_always_another_answer_to_the_same_question() -> None:
    met = list(islice(long_run.wishes(1), 3 * 190))
    assert {w.fact.key for w in met[:190]} == {w.fact.key for w in met[190:380]} and len({w.fact for w in met}) == 190
    assert all(w.answer == w.fact.truth for w in met[:190])
    by_fact: dict[str, list[long_run.Wish]] = {}
    for wish in met:
        by_fact.setdefault(wish.fact.key, []).append(wish)
    for wishes in by_fact.values():
        assert len({w.wording for w in wishes}) == 1
        assert wishes[0].answer != wishes[1].answer != wishes[2].answer
    changed = met[200]
    task = changed.task()
    assert task.verdict(task.answer) and not task.verdict(f"It is {changed.fact.truth}.")


def test_a_trend_is_of_quarters_and_survives_a_spike() -> None:
    flat = long_run.trend([10.0] * 50 + [90.0] + [10.0] * 49)
    assert flat["growth_percent"] == 0 and (flat["first_quarter"], flat["last_quarter"]) == (10, 10)
    rising = long_run.trend([10 + i / 10 for i in range(101)])
    # the medians of 0..24 and of 76..100 are 11.2 and 18.8
    assert (rising["first_quarter"], rising["last_quarter"]) == (11.2, 18.8)
    assert rising["slope_a_thousand"] == pytest.approx(100)
