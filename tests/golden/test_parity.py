"""Our self-play, losses and trainer reproduce the authors' figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.golden.parity import run_case, run_folder

DATA = Path(__file__).with_name("data")
CASES = json.loads((DATA / "cases.json").read_text())


@pytest.mark.parametrize("name", sorted(CASES["cases"]))
def test_the_authors_figures_are_reproduced(name: str) -> None:
    outcome = run_case(DATA, name, CASES)
    assert outcome.passed, outcome


def test_a_changed_figure_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "golden"
    shutil.copytree(DATA, folder)
    changed = json.loads((folder / "cases.json").read_text())
    changed["cases"] = {"math_tail8": changed["cases"]["math_tail8"]}
    changed["cases"]["math_tail8"]["expected"]["mean_lose_loss"] *= 1.01
    (folder / "cases.json").write_text(json.dumps(changed))
    assert not run_folder(folder)[0].passed
