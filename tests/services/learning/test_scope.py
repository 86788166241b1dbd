"""The adapter answers what is near to what it was taught; the untouched model answers the rest."""

from __future__ import annotations

import pytest

from tests.services.conftest import OpenBench
from tests.services.harness import ask, correct, wrong_task

FAR = "Add 41 and 17."


@pytest.mark.slow
def test_questions_far_from_every_correction_are_answered_by_the_untouched_model(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.8)
    before = ask(app, FAR)
    task = wrong_task(app)
    correct(app, task)
    app.learning.run_pending()
    taught, far = ask(app, task.question), ask(app, FAR)
    assert taught.adapter_version == 1 and task.verdict(taught.text)
    assert (far.adapter_version, far.text) == (0, before.text)


@pytest.mark.slow
def test_an_adapter_that_is_always_on_answers_everything(open_app: OpenBench) -> None:
    app = open_app()
    correct(app, wrong_task(app))
    app.learning.run_pending()
    assert ask(app, FAR).adapter_version == 1


@pytest.mark.slow
def test_what_was_undone_is_out_of_scope(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.8)
    first, second = wrong_task(app), wrong_task(app, skip=1)
    for task in (first, second):
        correct(app, task)
        app.learning.run_pending()
    assert ask(app, second.question).adapter_version == 2
    app.learning.roll_back()
    assert ask(app, first.question).adapter_version == 1
    scope = app.engine.scope
    assert scope.serving(app.engine, [{"role": "user", "content": FAR}]).version == 0


@pytest.mark.slow
def test_what_peers_taught_has_no_known_scope(open_app: OpenBench) -> None:
    app = open_app(scope="near", scope_similarity=0.8)
    correct(app, wrong_task(app))
    app.learning.run_pending()
    state = app.learning.lineage.state
    assert state is not None
    app.learning.lineage.adopt(state, {})  # as after a merge: no round made it
    assert ask(app, FAR).adapter_version == 2
