"""The aggregation benchmark: the shape is the published one, and a small run gives figures that make sense."""

from __future__ import annotations

import json
import sys
from math import prod
from pathlib import Path

import pytest

from benchmarks import aggregation


def test_the_shape_is_that_of_rank_16_on_all_linear_layers() -> None:
    shapes = aggregation.layer_shapes("qwen2.5-1.5b")
    assert len(shapes) == 28 * 7
    # r * (in + out) for each layer; 18,464,768 is what PEFT reports for r 16 on this model
    assert sum(aggregation.RANK * (out + in_) for out, in_ in shapes.values()) == 18_464_768
    llama = aggregation.layer_shapes("llama-3.2-3b", 1)
    assert llama["model.layers.0.self_attn.k_proj"] == (1024, 3072)
    assert sum(prod(s) for s in llama.values()) == 100_663_296


def test_merging_products_apart_goes_wrong_as_peers_drift() -> None:
    small, large = aggregation.drift_errors(0.01, "tiny"), aggregation.drift_errors(0.3, "tiny")
    assert 0 < small["fedavg_error_of_average"] < 1e-3 < large["fedavg_error_of_average"]
    assert 0 < small["exact_residual_of_average"] < large["exact_residual_of_average"] < 1


@pytest.mark.slow
def test_a_small_run_prints_every_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(aggregation, "DRIFTS", (0.1,))
    arguments = ["--shape", "tiny", "--updates", "3", "--layers", "1", "--folder", str(tmp_path), "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["aggregation", *arguments, "--json"])
    aggregation.main()
    report = json.loads(capsys.readouterr().out)
    assert set(report["costs"]) == {"check", "fedavg", "exact", "median", "trimmed_mean"}
    assert all(0 <= cost["peak_bytes"] < aggregation.BAR_BYTES for cost in report["costs"].values())
    assert 0 < report["costs"]["exact"]["residual"] < 1
    assert len(report["drifts"]) == 1 and not list(tmp_path.iterdir())
    costs = {name: aggregation.Cost(**cost) for name, cost in report["costs"].items()}
    monkeypatch.setattr(aggregation, "costs", lambda *_: (costs, report["update_bytes"]))
    monkeypatch.setattr(sys, "argv", ["aggregation", *arguments])
    aggregation.main()
    assert "trimmed_mean" in capsys.readouterr().out
