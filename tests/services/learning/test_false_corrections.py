"""Wrong hints and false corrections: what they may do and what they may not."""

from __future__ import annotations

import pytest

from pocket.tasks import Task, open_task
from pocket.wordings import OPEN
from services.app import AppServices
from tests.services.harness import WORLD, ask

KNOWN = [open_task(WORLD, f, OPEN["kind"][0]) for f in WORLD.of("kind", half_known=False)]


def right(app: AppServices, tasks: list[Task]) -> int:
    return sum(t.verdict(ask(app, t.question, learn=False).text) for t in tasks)


@pytest.mark.slow
def test_a_stream_of_wrong_hints_that_nobody_confirms_changes_nothing(app: AppServices) -> None:
    for task in KNOWN[:4]:
        reply = ask(app, task.question)
        revision = list(app.chat.revise(reply.id, "no, a building"))[-1]
        app.feedback.still_wrong(revision.id)
    assert app.learning.run_pending() == 0
    assert app.learning.status().adapter_version == 0
    assert right(app, KNOWN[:4]) == 4


@pytest.mark.slow
def test_false_corrections_stay_among_their_kind_and_the_latest_word_undoes_them(app: AppServices) -> None:
    false = KNOWN[:2]
    # "gold is a building" spreads to other metals: kin share what makes them answer (docs/LOG.md)
    others = [t for t in KNOWN if t.truth not in {f.truth for f in false}][:30]
    for task in false:
        app.feedback.edit(ask(app, task.question).id, task.answer.replace(task.truth, "building"))
        app.learning.run_pending()
    assert right(app, others) >= 28
    for task in false:
        app.feedback.edit(ask(app, task.question).id, task.answer)
        app.learning.run_pending()
    assert right(app, false) == 2
    assert right(app, others) >= 28
