"""What is read off a complete run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.report import study_figures, write_report
from experiments.results import Result
from spear_core.errors import ConfigError


def result(right: str, answers: str) -> Result:
    return Result({}, list(answers), [{"round": 0, "accuracy": 0.0, "right": right}], tuple(answers))


def test_a_model_that_always_gives_one_answer_has_the_balanced_accuracy_of_chance() -> None:
    assert result("110000", "aabbcc").balanced_accuracy == pytest.approx(1 / 3)
    assert result("111100", "aaaabb").balanced_accuracy == 0.5, "though four of six are right"
    assert result("111111", "aaabbc").balanced_accuracy == 1.0


def test_many_different_answers_are_not_balanced() -> None:
    assert result("1" * 20, "abcdefghijklmnopqrst").balanced_accuracy is None
    assert Result({}, ["a"], [{"round": 0, "accuracy": 1.0, "right": "1"}]).balanced_accuracy is None, "an older run"


def counted(**changes: int) -> dict[str, Any]:
    return dict.fromkeys(("revised", "generated_tokens", "play_seconds", "train_seconds", "prompts"), 1) | {
        "needed_revision": 1, **changes
    }  # fmt: skip


def played(folder: Path, study: str = "open", rate: float = 1e-3, *, heard: bool = True) -> Path:
    """A complete run of two rounds; of the second no client is heard, or one."""
    run = {"study": study, "variant": "main", "task": "pocket_open", "algorithm": "dpo", "seed": 1, "rate": rate}
    lines = [
        {"round": 0, "accuracy": 0.0, "right": "00"},
        {"round": 1, "clients": {"0": counted(prompts=2)}},
        {"round": 2, "clients": {"0": counted()} if heard else {}, "accuracy": 0.5, "right": "10"},
    ]
    of_run = folder / study / "main" / "dpo-seed1"
    of_run.mkdir(parents=True)
    (of_run / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (of_run / "done.json").write_text(json.dumps({"run": run, "test_keys": ["a", "b"]}))
    return folder


def test_a_round_in_which_no_client_was_heard_is_in_the_report(tmp_path: Path) -> None:
    write_report(played(tmp_path / "runs", heard=False), tmp_path / "report")
    [row] = json.loads((tmp_path / "report" / "figures.json").read_text())["pocket_open"]
    assert row["needing revision, first quarter"] == "50 %" and row["last quarter"] == "-"


def test_a_difference_names_what_it_is_taken_from() -> None:
    results = [
        Result({"seed": 1}, ["a"], [{"clients": {"0": counted()}, "accuracy": a, "right": str(int(a))}] * 2)
        for a in (1.0, 0.0)
    ]
    [_, other] = study_figures({"dpo": results[:1], "kto": results[1:]})
    assert other["dpo minus this"].startswith("+1.000")


def test_runs_of_one_name_count_once_and_are_refused_where_their_settings_differ(tmp_path: Path) -> None:
    played(tmp_path / "runs")
    played(tmp_path / "runs" / "fleet")
    write_report(tmp_path / "runs", tmp_path / "report")
    [row] = json.loads((tmp_path / "report" / "figures.json").read_text())["pocket_open"]
    assert row["seeds"] == 1
    played(tmp_path / "runs", study="faster", rate=1e-2)
    with pytest.raises(ConfigError, match="faster/main/dpo and open/main/dpo both play pocket_open with seed 1"):
        write_report(tmp_path / "runs", tmp_path / "report")
