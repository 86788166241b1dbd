"""Three real app processes on loopback teach each other: `python -m benchmarks.circle [--json] [--facts 4] [--merges 10]`.

Each is corrected about other half-known facts by the simulated user, then all run `app.py` with each other as peers. On
the way one is killed (SIGKILL) while it syncs and started again, one is stopped (SIGSTOP) until its peers give it up and
goes on, and one has a clock ten minutes ahead. Ends when no peer has anything new to merge, or after --merges merges
each. Figures as in benchmarks.spread, of what each peer serves in the end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.live_learning import Study
from benchmarks.report import add_common_flags, print_table
from benchmarks.spread import Circle, open_peer
from federation.identity import open_identity
from services.app import DATABASE
from services.peers.published_update import FOLDER
from services.peers.sync import MERGES

APP = Path(__file__).resolve().parent.parent / "app.py"
SYNC_EVERY = "5s"
CLOCK_AHEAD_SECONDS = 600
# runs the app with another idea of the time
SHIFTED = (
    "import runpy, sys, time; real = time.time; time.time = lambda: real() + {ahead}; "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


class PeerProcess:
    """app.py over one data folder, on one port."""

    def __init__(self, model: str, folder: Path, seed: int, clock_ahead_seconds: int = 0) -> None:
        self.model, self.folder, self.seed, self.ahead = model, folder, seed, clock_ahead_seconds
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.key = open_identity(folder / FOLDER / "key.pem").public.text
        self.address = f"http://127.0.0.1:{self.port}#{self.key}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, peers: Sequence[str]) -> None:
        """Returns at once; `ready` says when it answers."""
        start = ["-c", SHIFTED.format(ahead=self.ahead)] if self.ahead else []
        flags = ["--model", self.model, "--data-folder", str(self.folder), "--port", str(self.port)]
        flags += ["--threads", "1", "--seed", str(self.seed), "--sync-every", SYNC_EVERY]
        for address in peers:
            flags += ["--peer", address]
        with (self.folder / "app.log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, *start, str(APP), *flags], stdout=log, stderr=log)

    def ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.process.wait(timeout=120)

    def merges(self) -> list[dict[str, Any]]:
        """What the running app has recorded, newest first."""
        with sqlite3.connect(f"file:{self.folder / DATABASE}?mode=ro", uri=True, timeout=10) as db:
            row = db.execute("SELECT value FROM settings WHERE key = ?", [MERGES]).fetchone()
        return json.loads(row[0]) if row else []


def wait_until(holds: Any, seconds: float) -> bool:
    """Ask every half second; whether it held in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.5)
    return False


def run_processes(peers: Sequence[PeerProcess], most_merges: int, seconds: float, faults: bool) -> bool:
    """Let the peers sync until nothing is new or the limits are reached; whether it came to rest."""
    others = {p.key: [o.address for o in peers if o is not p] for p in peers}
    for peer in peers:
        peer.start(others[peer.key])
    try:
        assert wait_until(lambda: all(p.ready() for p in peers), 180), "an app did not start; see its app.log"
        if faults:
            killed, stopped = peers[0], peers[-1]
            wait_until(lambda: any(p.merges() for p in peers), seconds)
            killed.signal(signal.SIGKILL)
            killed.start(others[killed.key])
            assert wait_until(killed.ready, 180), "the killed app did not start again"
            stopped.signal(signal.SIGSTOP)
            time.sleep(30)  # its peers wait 20 s for an answer
            stopped.signal(signal.SIGCONT)

        def at_rest() -> bool:
            newest = [p.merges()[:1] for p in peers]
            return all(m and m[0]["version"] is None for m in newest) or all(
                len(p.merges()) >= most_merges for p in peers
            )

        return wait_until(at_rest, seconds)
    finally:
        for peer in peers:
            if peer.process is not None and peer.process.poll() is None:
                peer.signal(signal.SIGTERM)


def run(model: str, *, facts: int, merges: int, seconds: float, seed: int, faults: bool = True) -> dict[str, Any]:
    """The figures of `Circle.figures`, before and after, with what happened on the way."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        circle = Circle(model, Path(folder), 3, facts, seed)
        peers = [
            PeerProcess(model, circle.folder / name, circle.seed_of(i), CLOCK_AHEAD_SECONDS if i == 1 else 0)
            for i, name in enumerate(circle.names)
        ]
        before = measured(circle)
        began = time.monotonic()
        at_rest = run_processes(peers, merges, seconds, faults)
        done = [p.merges() for p in peers]
        return {
            "before": before,
            "after": measured(circle),
            "corrected": [len(f) for f in circle.facts],
            "merges": [len(of_peer) for of_peer in done],
            "refused": [sum("Not kept" in m["words"] for m in of_peer) for of_peer in done],
            "at_rest": at_rest,
            "seconds": round(time.monotonic() - began, 1),
        }


def measured(circle: Circle) -> dict[str, float]:
    """Opens every peer's data folder; no app may run on it."""
    apps = [open_peer(circle.model, circle.folder / n, circle.seed_of(i)) for i, n in enumerate(circle.names)]
    try:
        return circle.figures([Study(app, circle.seed_of(i), 0.0) for i, app in enumerate(apps)])
    finally:
        for app in apps:
            app.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser)
    parser.add_argument("--facts", type=int, default=4, help="that each peer is corrected about")
    parser.add_argument("--merges", type=int, default=10, help="of each peer, before it stops")
    parser.add_argument("--seconds", type=float, default=600.0, help="to wait for, at most")
    arguments = parser.parse_args()
    found = run(
        arguments.model, facts=arguments.facts, merges=arguments.merges, seconds=arguments.seconds, seed=arguments.seed
    )
    if arguments.json:
        print(json.dumps(found))
        return
    names = list(found["after"])
    print_table(
        ["figure", "before", "after"], [[n, f"{found['before'][n]:.2f}", f"{found['after'][n]:.2f}"] for n in names]
    )
    print({key: value for key, value in found.items() if key not in ("before", "after")})


if __name__ == "__main__":
    main()
