"""`make lock`: what uv resolved, written as the lock files that `make chat` installs from. Only the standard library.

torch stands in a file of its own with the hashes of its builds: PyPI's, and the CPU builds that some indexes offer as the
same version. PyPI's build for Linux needs the CUDA libraries, which stand in a third file.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from pathlib import Path

MAIN, TORCH, CUDA = "requirements.lock", "requirements-torch.lock", "requirements-cuda.lock"
DEV = "requirements-dev.lock"
HEADER = "# Made by `make lock`; do not edit. {about}\n"
ABOUT = {
    MAIN: "Every package that the app needs but torch, with the hashes of its files.",
    TORCH: "The hashes of PyPI's builds of torch and of the CPU builds that were added to them.",
    DEV: "The same, and what tests and checks need.",
    CUDA: "What PyPI's build of torch needs on Linux besides.",
}
_OF_CUDA = re.compile(r"(nvidia|cuda|triton)\b")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def split(compiled: str) -> dict[str, list[str]]:
    """The requirements of a compiled file, each with its hashes, by the lock file that they belong to."""
    found: dict[str, list[str]] = {MAIN: [], TORCH: [], CUDA: []}
    for requirement in re.split(r"\n(?=\S)", compiled.strip()):
        if requirement.startswith("#"):
            continue
        if not _HASH.search(requirement):
            raise ValueError(f"no hash in {requirement.splitlines()[0]!r}; compile with --generate-hashes")
        file = TORCH if requirement.startswith("torch==") else CUDA if _OF_CUDA.match(requirement) else MAIN
        found[file].append(requirement)
    return found


def with_hashes(requirement: str, more: set[str]) -> str:
    """The requirement with further hashes that it is allowed to have."""
    hashes = sorted({*_HASH.findall(requirement), *more})
    return " \\\n".join([requirement.split(" \\\n")[0], *(f"    {each}" for each in hashes)])


def earlier_hashes(file: Path, requirement: str) -> set[str]:
    """Those that the lock file has for this very version: hashes of builds that PyPI does not know stay."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return set(_HASH.findall(text)) if requirement.split(" ")[0] in text.split() else set()


def write(compiled: str, developing: str, folder: Path, wheels: list[Path]) -> None:
    """Write the lock files into `folder`.

    Args:
        compiled: what was resolved for the app.
        developing: the same for those who change it.
        folder: where the lock files are.
        wheels: further builds of torch that may be installed.
    """
    found = {**split(compiled), DEV: split(developing)[MAIN]}
    more = {f"--hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}" for wheel in wheels}
    found[TORCH] = [with_hashes(r, more | earlier_hashes(folder / TORCH, r)) for r in found[TORCH]]
    for name, requirements in found.items():
        text = HEADER.format(about=ABOUT[name]) + "".join(f"{r}\n" for r in requirements)
        (folder / name).write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, of in (("compiled", "requirements.txt"), ("developing", "requirements-dev.txt")):
        parser.add_argument(name, type=Path, help=f"what `uv pip compile --generate-hashes` wrote of {of}")
    parser.add_argument("--torch-wheel", type=Path, action="append", default=[], help="a further build of torch")
    asked = parser.parse_args()
    compiled, developing = (file.read_text(encoding="utf-8") for file in (asked.compiled, asked.developing))
    write(compiled, developing, Path(), asked.torch_wheel)


if __name__ == "__main__":
    main()
