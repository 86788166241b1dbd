"""The clock set back while the app runs and between two runs: nothing is lost, and learning does not wait for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from federation.update import open_update
from services.peers.published_update import PUBLISHED
from tests.faults.quick import open_quick, teach
from tests.services.conftest import ROOT

DAY = 86_400

# A process of its own, because its clock is: learns by its schedule, is set back by a day, and goes on.
LIFE = """
import ctypes, json, sys, time
from datetime import UTC, datetime
from pathlib import Path
from services.data import backups
from tests.faults.quick import open_quick, teach
from tests.services.harness import ask

clock = ctypes.CDLL(None)
clock.set_clock(ctypes.c_long(int(sys.argv[2])))
bench = open_quick(Path(sys.argv[1]), start_jobs=True)
bench.feedback.on_new_traces = lambda: None  # nobody brings the schedule forward

def learned(version):
    deadline = time.monotonic() + 60
    while bench.learning.status().adapter_version < version and time.monotonic() < deadline:
        time.sleep(0.05)
    return bench.learning.status().adapter_version

at = bench.learning.status().adapter_version
said = {"before": datetime.now(UTC).isoformat()}
teach(bench, "What is an owl?", "a bird")
said["first"] = learned(at + 1)
clock.set_clock(ctypes.c_long(int(sys.argv[2]) - 86_400))
said["after"] = datetime.now(UTC).isoformat()
teach(bench, "What is a violin?", "an instrument")
said["second"] = learned(at + 2)
said["answer"] = ask(bench, "What is a violin?").text
said["shown"] = [m.text for c in bench.chat.conversations() for m in bench.chat.messages(c.id) if m.role == "user"]
archives = [backups.back_up(bench.engine.store, bench.engine.data_folder) for _ in range(2)]
said["backups"] = len({a.name for a in archives})
said["words"] = bench.learning.status().headline
bench.close()
print(json.dumps(said))
"""


SAID = ("an instrument", "instrument")  # which of them hangs on the processor's rounding


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("the clock of one process can be set only on Linux with a C compiler")
    library = tmp_path_factory.mktemp("clock") / "set_clock.so"
    source = Path(__file__).with_name("set_clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def live(clock: Path, data: Path, offset_seconds: int) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", LIFE, str(data), str(offset_seconds)],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(clock)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_a_clock_set_back_by_days_stops_neither_learning_nor_backups_and_mixes_nothing_up(
    clock: Path, tmp_path: Path
) -> None:
    first = live(clock, tmp_path / "data", 0)
    assert str(first["after"]) < str(first["before"]), "the clock was set back"
    assert (first["first"], first["second"]) == (1, 2) and first["answer"] in SAID
    assert first["words"] == "Learned: v2 answers now." and first["backups"] == 2
    second = live(clock, tmp_path / "data", -30 * DAY)
    assert (second["first"], second["second"]) == (3, 4) and second["answer"] in SAID
    asked = ["What is an owl?", "What is a violin?", "What is a violin?"]
    assert second["shown"] == [*reversed(asked), *reversed(asked)], "in the order in which it was said"


def test_an_update_signed_in_what_is_now_the_future_is_signed_anew_for_peers_take_none_from_there(
    tmp_path: Path,
) -> None:
    app = open_quick(tmp_path / "data")
    teach(app, "What is an owl?", "a bird")
    app.learning.run_pending()
    app.sync.sync()
    store = app.engine.store
    store.set_setting(PUBLISHED, {**store.setting(PUBLISHED), "created_at": int(time.time()) + DAY})
    app.sync.sync()
    offer = app.sync.latest()
    assert offer and offer.round == 2
    assert open_update(offer.path).manifest.created_at_utc <= time.time()
    app.close()
