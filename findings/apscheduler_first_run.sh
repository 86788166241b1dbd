#!/usr/bin/env bash
# APScheduler: a job that is to run "now" never runs if the scheduler starts two seconds later.
#
# Expected: add_job(function) before start() runs once, as soon as the scheduler starts.
# Found: "now" is the moment of add_job, and a run that is more than misfire_grace_time = 1 second late is left out. The
#   job is then removed from the store: it never runs. An application that takes two seconds to load its model loses its
#   first job, with one warning in the log. With misfire_grace_time=None it runs.
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
import time

from apscheduler.schedulers.background import BackgroundScheduler

logging.basicConfig(format="   log: %(message)s")


def run(**defaults):
    ran = []
    scheduler = BackgroundScheduler(job_defaults=defaults)
    scheduler.add_job(ran.append, args=["ran"])
    time.sleep(2)  # the rest of the application starts
    scheduler.start()
    time.sleep(1)
    left = scheduler.get_jobs()
    scheduler.shutdown()
    return ran, left


print("APScheduler", importlib.metadata.version("APScheduler"))
ran, left = run()
print(f"default: runs {len(ran)}, jobs left {len(left)}")
patient, _ = run(misfire_grace_time=None)
print(f"misfire_grace_time=None: runs {len(patient)}")
as_found = not ran and not left and len(patient) == 1
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
