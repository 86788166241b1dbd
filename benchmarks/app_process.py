"""The app as a process of its own, as a person starts it, for benchmarks that use it from outside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHUTDOWN_SECONDS = 60.0  # a round under way ends first


@dataclass(frozen=True)
class App:
    url: str
    pid: int


@contextmanager
def running_app(model: str, data_folder: Path, more: Sequence[str] = (), log: Path | None = None) -> Iterator[App]:
    """On a free port until the block ends. `more` are further flags; `log` is where its log goes."""
    command = [sys.executable, str(ROOT / "app.py"), "--model", model, "--data-folder", str(data_folder), "--port", "0"]
    with (log or Path("/dev/null")).open("w") as errors:
        process = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "http" not in line:
            raise SystemExit("the app did not start; run it by hand to see why: python app.py")
        yield App(line.rsplit(" ", 1)[1].strip(), process.pid)
    finally:
        process.terminate()
        try:
            process.wait(SHUTDOWN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
