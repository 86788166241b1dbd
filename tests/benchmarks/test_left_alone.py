"""What the real model's benchmark measures after the app was left alone: the pocket model stands in for the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.real_corrections import Correction
from benchmarks.real_learning import Progress, Study
from benchmarks.real_measures import Probe
from services.app import open_services
from services.settings import Settings
from tests.pocket_model import FEW_ANCHORS, POCKET_MODEL
from tests.services.harness import other_wordings, wrong_task
from tests.services.learning.test_scope import lose_everything


@pytest.mark.slow
def test_a_lost_answer_is_back_once_the_app_was_left_alone(tmp_path: Path) -> None:
    settings = Settings(model=str(POCKET_MODEL), data_folder=tmp_path, spear=FEW_ANCHORS)
    app = open_services(settings, start_jobs=False)
    try:
        task = wrong_task(app)
        wordings = tuple(other.question for other in other_wordings(task))
        correction = Correction(task.question, task.truth, task.truth, f"no, {task.truth}", wordings, ())
        study = Study(app, [correction], Probe(app, ["Hello!"]), Progress())
        study.meet()
        lose_everything(app)
        assert study.figures()["same_at_end"] == 0.0
        after = study.leave_alone()
        assert (after["relapses"], after["same_at_end"]) == ([1, 0], 1.0)
    finally:
        app.close()
