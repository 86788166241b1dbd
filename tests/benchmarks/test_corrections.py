"""The benchmark of corrections in conversation."""

from __future__ import annotations

import json

import pytest

from benchmarks import corrections as bench
from spear_core.inference.corrections import Sign


def test_the_sets_are_of_the_sizes_named_and_share_no_follow_up() -> None:
    test, tune = bench.read("test"), bench.read("tune")
    assert (len(test), sum(is_one for _, is_one in test)) == (100, 50) and len(tune) >= 60
    assert not {f for f, _ in test} & {f for f, _ in tune}
    assert len({f for f, _ in test}) == 100


def test_each_rule_counts_what_it_says() -> None:
    signs, found = [Sign.STRONG, Sign.WEAK, Sign.WEAK, Sign.NONE], [0.0, 9.0, 0.0, 9.0]
    out = bench.measure(signs, found, [True, True, False, False])
    assert out["cues and model"] == {"taken": 2, "precision": 1.0, "recall": 1.0}
    assert out["strong cues alone"] == {"taken": 1, "precision": 1.0, "recall": 0.5}
    assert out["any cue alone"]["precision"] == pytest.approx(2 / 3)
    assert out["model alone"] == {"taken": 2, "precision": 0.5, "recall": 0.5}
    assert bench.outcome([False], [True])["precision"] is None


def test_the_command_prints_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    bench.main(["--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["cases"] == 100 and set(found) >= {"cues and model", "strong cues alone", "model alone", "bars_met"}
