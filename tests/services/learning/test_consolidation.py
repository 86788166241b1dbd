"""After some rounds all corrections are practised together, in the background; what was taught still holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from spear_core.errors import TrainingFailed
from spear_core.training.round import Learner
from tests.faults.quick import ask, open_quick, teach

TAUGHT = {"What is an owl?": "a red bird", "What is a harp?": "strings", "What is iron?": "metal"}


@pytest.mark.slow
def test_every_few_rounds_all_corrections_are_practised_together(tmp_path: Path) -> None:
    app = open_quick(tmp_path / "data", consolidate_every=3, consolidation_steps=40)
    for question, answer in TAUGHT.items():
        teach(app, question, answer)
        app.learning.run_pending()
    versions = app.learning.adapters()
    assert [v.source for v in versions] == ["consolidated", "", "", ""] and versions[0].status == "live"
    assert all(ask(app, question).text == answer for question, answer in TAUGHT.items())
    app.learning.run_pending()
    assert len(app.learning.adapters()) == 4, "once is enough"
    app.close()


@pytest.mark.slow
def test_what_is_forgotten_leaves_the_practised_version_too(tmp_path: Path) -> None:
    app = open_quick(tmp_path / "data", consolidate_every=3, consolidation_steps=40)
    replies = [teach(app, question, answer) for question, answer in TAUGHT.items() if app.learning.run_pending() >= 0]
    app.learning.run_pending()
    app.learning.forget([replies[0]])
    assert all(v.status != "live" for v in app.learning.adapters()), "every version saw it"
    app.learning.run_pending()
    assert ask(app, "What is a harp?").text == "strings"
    app.close()


@pytest.mark.slow
def test_a_practice_that_breaks_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise TrainingFailed("not finite")

    monkeypatch.setattr(Learner, "consolidate", broken)
    app = open_quick(tmp_path / "data", consolidate_every=2)
    for question, answer in list(TAUGHT.items())[:2]:
        teach(app, question, answer)
        app.learning.run_pending()
    assert app.learning.status().adapter_version == 2 and ask(app, "What is an owl?").text == "a red bird"
    app.close()


def test_it_is_off_for_the_small_preset(tmp_path: Path) -> None:
    app = open_quick(tmp_path / "data")
    assert app.engine.config.consolidate_every == 0
    app.close()


@pytest.mark.slow
def test_a_practice_that_was_undone_is_not_repeated_after_a_restart(tmp_path: Path) -> None:
    often: dict[str, object] = {"consolidate_every": 2, "consolidation_steps": 10}
    app = open_quick(tmp_path / "data", **often)
    for question, answer in list(TAUGHT.items())[:2]:
        teach(app, question, answer)
        app.learning.run_pending()
    assert app.learning.adapters()[0].source == "consolidated"
    assert app.learning.roll_back() == 2
    app.close()
    app = open_quick(tmp_path / "data", **often)
    app.learning.run_pending()
    assert app.learning.status().adapter_version == 2
    app.close()
