"""The store benchmark at a small size: every operation gets its figures."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.store import BAR_MS, FSYNC, NO_BAR


def test_every_operation_gets_a_figure_and_the_worst_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.store", "--rows", "2000", "--calls", "5", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(done.stdout)
    p50, p95 = figures["p50_ms"], figures["p95_ms"]
    asked = {
        "set_vote",
        "replace_traces",
        "claim_round (all that waits)",
        "count_pending",
        "latest_feedback",
        "promote",
    }
    assert asked | {"replay_wins", "unobjected_replies", "lineage", "forget (the newest round)", FSYNC} <= p95.keys()
    assert (
        p50.keys() == p95.keys() == figures["p95_cpu_ms"].keys() == figures["calls"].keys()
        and min(figures["calls"].values()) >= 1
    )
    assert all(0 < p50[op] <= p95[op] for op in p95)
    assert figures["worst_p95_ms"] == p95[figures["worst"]] == max(ms for op, ms in p95.items() if op not in NO_BAR)
    assert (figures["rows"], figures["bar_ms"]) == (2000, BAR_MS)
