"""One client round of each algorithm on one core and capped memory: `python -m experiments hardware FILE [--megabytes 1500]`.

Each algorithm plays the first round of the file's first run in a process of its own, pinned to one core, whose address
space is capped: beyond the cap memory is refused and the round fails, which the table shows. The peak is resident memory.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.settings import Run, read_runs

MEGABYTE = 1 << 20


def rounds_on_one_core(
    file: Path, megabytes: int, algorithms: list[str], data_folder: Path | None = None
) -> list[dict[str, Any]]:
    """A row for each algorithm: seconds of the round, of this its playing and training, and the peak in megabytes."""
    rows = []
    for algorithm in algorithms:
        command = [sys.executable, "-m", "experiments.hardware", str(file), algorithm, str(megabytes)]
        command += [str(data_folder)] if data_folder else []
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            rows.append({"algorithm": algorithm, "failed": reason[0][:100]})
        else:
            rows.append({"algorithm": algorithm, **json.loads(done.stdout.splitlines()[-1])})
    return rows


def _one_round(run: Run, megabytes: int) -> dict[str, Any]:
    import torch

    from experiments.runner import Simulation

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    resource.setrlimit(resource.RLIMIT_AS, (megabytes * MEGABYTE, megabytes * MEGABYTE))
    world = Simulation(run)
    before = os.times()
    counts = world.client(0, 0, world.runtime.shared_models.state()).counts
    after = os.times()
    return {
        "cpu_seconds": round(after.user + after.system - before.user - before.system, 2),
        "play_seconds": round(counts.play_seconds, 2),
        "train_seconds": round(counts.train_seconds, 2),
        "prompts": counts.prompts,
        "generated_tokens": counts.generated_tokens,
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _child(file: str, algorithm: str, megabytes: str, data_folder: str = "") -> None:
    first = read_runs(Path(file))[0]
    data = dataclasses.replace(first.data, folder=data_folder)
    run = dataclasses.replace(first, algorithm=algorithm, options={}, data=data)
    print(json.dumps(_one_round(run, int(megabytes))))


if __name__ == "__main__":
    _child(*sys.argv[1:5])
