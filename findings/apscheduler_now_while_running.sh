#!/usr/bin/env bash
# APScheduler: a job that is asked to run now, while it is running, does not run again until its next interval.
#
# Expected: modify_job(id, next_run_time=now) during a run makes the job run once more when that run ends; coalesce and
#   max_instances=1 only keep two runs from overlapping.
# Found: the wish is refused at once ("maximum number of running instances reached") and forgotten: the next run is a whole
#   interval after the wish. That holds until the executor has heard of the end of the run, so also for work that comes
#   in the run's last moments, when it no longer looks for any. Who wakes a job for new work has to remember the wish and
#   listen for EVENT_JOB_EXECUTED.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq APScheduler==3.11.3
env/bin/python - <<'PY'
import importlib.metadata
import logging
import sys
import threading
import time
from datetime import datetime, timezone

from apscheduler.schedulers.background import BackgroundScheduler

logging.basicConfig(format="   log: %(message)s", level=logging.WARNING)


def runs(asked_during_the_run):
    """How often the job has run two seconds after the wish."""
    begun, go_on, count = threading.Event(), threading.Event(), []

    def work():
        count.append(1)
        begun.set()
        go_on.wait(10)

    now = datetime.now(timezone.utc)
    scheduler = BackgroundScheduler(job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None})
    scheduler.add_job(work, "interval", hours=1, id="work", next_run_time=now)
    scheduler.start()
    begun.wait(10)
    if not asked_during_the_run:
        go_on.set()
        time.sleep(0.5)
    scheduler.modify_job("work", next_run_time=datetime.now(timezone.utc))
    time.sleep(0.5)
    go_on.set()
    time.sleep(1.5)
    scheduler.shutdown()
    return len(count)


print("APScheduler", importlib.metadata.version("APScheduler"))
during, after = runs(True), runs(False)
print(f"asked during a run: {during} in all; asked after it: {after}")
as_found = (during, after) == (1, 2)
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
