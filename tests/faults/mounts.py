"""File systems of a test's own: a small one that can be filled, and one that cannot be written. Need root on Linux."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(target: Path, *arguments: str) -> Iterator[Path]:
    """Mount something at `target`; skips the test where this machine does not let it."""
    target.mkdir(exist_ok=True)
    try:
        done = subprocess.run(["mount", *arguments, str(target)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield target
    finally:
        subprocess.run(["umount", "--lazy", str(target)], check=True)


def fill(disk: Path, leave_bytes: int = 0) -> Path:
    """Take all the room of a small disk but `leave_bytes`. Returns the file to delete when there is to be room again."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError as e:
            assert e.errno == errno.ENOSPC
        file.truncate(max(0, file.tell() - leave_bytes))
    return ballast


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, but the locks."""
    found = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if path.name not in (".in-use", ".app")}


def one_sentence(error: BaseException | str) -> str:
    words = str(error)
    assert words and "\n" not in words and "Traceback" not in words and words.count(". ") <= 1, words
    return words
