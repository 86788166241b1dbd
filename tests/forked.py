"""The app as a process, forked from one that has imported the libraries: they are most of what a start computes.

What a process is to others stays as it is: arguments, environment, working folder, streams, signals and exit status. What
a start does before app.py has imported anything needs `python app.py` itself: tests/cli/test_private_files.py, a Ctrl-C
while the model loads and a second app on one folder (tests/faults/) start it so.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

import app

PRELOADED = [
    "cli.interrupts",
    "server.current_user",
    "services.app",
    "ui.page",
    "ui.serve",
    "ui.visitor",
    "peft.tuners.lora",
    "transformers.models.llama.modeling_llama",
]


class Forked:
    """What `subprocess.Popen([sys.executable, *command], stdout=PIPE, stderr=log, text=True)` is, as far as tests use it."""

    def __init__(
        self, command: Sequence[str], folder: Path, log: IO[Any], environment: Mapping[str, str] | None = None
    ) -> None:
        app.prepare_environment()
        context: Any = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        reader, writer = os.pipe()
        out, err = Connection(writer, readable=False), Connection(os.dup(log.fileno()), readable=False)
        given = dict(os.environ if environment is None else environment)
        self._process = context.Process(target=_run, args=(list(command), str(folder), given, out, err))
        self._process.start()
        out.close()
        err.close()
        self.stdout = os.fdopen(reader)

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def poll(self) -> int | None:
        return self._process.exitcode  # type: ignore[no-any-return]

    def wait(self, seconds: float | None = None) -> int:
        self._process.join(seconds)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("app.py", seconds or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _run(command: Sequence[str], folder: str, environment: Mapping[str, str], out: Connection, err: Connection) -> None:
    os.dup2(out.fileno(), sys.__stdout__.fileno())  # type: ignore[union-attr]
    os.dup2(err.fileno(), sys.__stderr__.fileno())  # type: ignore[union-attr]
    out.close()
    err.close()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # of this process's TMPDIR
    sys.argv = list(command)
    try:
        runpy.run_path(command[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()
