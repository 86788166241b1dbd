"""A kill -9 in the middle of a round loses no vote, and the next start finishes the job."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pocket.tasks import open_task
from pocket.wordings import OPEN
from pocket.world import load_world
from tests.services.conftest import ROOT, OpenBench
from tests.services.harness import ask

# A process of its own: corrects one fact, says so, and trains very slowly until it is killed.
CORRECT_AND_TRAIN = """
import sys, time
from pathlib import Path
from services.settings import Settings
from services.app import open_services
from tests.services.harness import correct, wrong_task
from tests.pocket_model import FEW_ANCHORS, POCKET_MODEL

bench = open_services(Settings(model=str(POCKET_MODEL), data_folder=Path(sys.argv[1]), spear=FEW_ANCHORS), start_jobs=False)
task = wrong_task(bench)
reply, revision = correct(bench, task)
print("ACK", task.facts[0].key, reply.id, revision.id, flush=True)

def slow_step(progress):
    print("STEP", progress.step, flush=True)
    time.sleep(60)

bench.learning._on_step = slow_step
bench.learning.run_pending()
"""


@pytest.mark.slow
def test_a_kill_during_a_round_loses_no_vote_and_the_next_start_finishes_the_job(open_app: OpenBench) -> None:
    data = open_app().engine.data_folder  # made, and closed again by opening it below
    process = subprocess.Popen(
        [sys.executable, "-c", CORRECT_AND_TRAIN, str(data)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        acknowledged = process.stdout.readline().split()
        assert acknowledged and acknowledged[0] == "ACK"
        assert process.stdout.readline().startswith("STEP")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)

    _, key, reply_id, revision_id = acknowledged
    app = open_app()
    conversation = app.engine.store.message(reply_id).conversation_id
    shown = {m.id: m for m in app.chat.messages(conversation)}
    assert shown[reply_id].vote == -1 and shown[revision_id].verdict == "better"
    assert [r.status for r in app.engine.store.rounds(app.engine.base)] == ["interrupted"]
    assert app.learning.status().phase == "queued"

    assert app.learning.run_pending() == 1
    fact = load_world().fact(key)
    task = open_task(load_world(), fact, OPEN[fact.relation][0])
    assert task.verdict(ask(app, task.question).text)


def test_files_of_a_round_killed_before_its_promotion_are_removed(open_app: OpenBench) -> None:
    app = open_app()
    left_over: Path = app.engine.adapter_folder(7)
    left_over.mkdir(parents=True)
    (left_over / "adapter_model.safetensors").write_bytes(b"half")
    open_app()
    assert not left_over.exists()
