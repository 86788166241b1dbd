"""Wrong hints and false corrections: what they may do and what they may not."""

from __future__ import annotations

from pocket.tasks import Task, open_task
from pocket.wordings import OPEN
from services.workbench import Workbench
from tests.services.bench_desk import WORLD, ask

KNOWN = [open_task(WORLD, f, OPEN["kind"][0]) for f in WORLD.of("kind", half_known=False)]


def right(bench: Workbench, tasks: list[Task]) -> int:
    return sum(t.verdict(ask(bench, t.question, learn=False).text) for t in tasks)


def test_a_stream_of_wrong_hints_that_nobody_confirms_changes_nothing(bench: Workbench) -> None:
    for task in KNOWN[:4]:
        reply = ask(bench, task.question)
        revision = list(bench.chat.revise(reply.id, "no, a building"))[-1]
        bench.feedback.still_wrong(revision.id)
    assert bench.learning.run_pending() == 0
    assert bench.learning.status().adapter_version == 0
    assert right(bench, KNOWN[:4]) == 4


def test_false_corrections_stay_among_their_kind_and_the_latest_word_undoes_them(bench: Workbench) -> None:
    false = KNOWN[:2]
    # "gold is a building" spreads to other metals: kin share what makes them answer (docs/LOG.md)
    others = [t for t in KNOWN if t.truth not in {f.truth for f in false}][:30]
    for task in false:
        bench.feedback.edit(ask(bench, task.question).id, task.answer.replace(task.truth, "building"))
        bench.learning.run_pending()
    assert right(bench, others) >= 28
    for task in false:
        bench.feedback.edit(ask(bench, task.question).id, task.answer)
        bench.learning.run_pending()
    assert right(bench, false) == 2
    assert right(bench, others) >= 28
