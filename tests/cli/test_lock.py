"""The lock files: every package that is installed stands in them with hashes, and agrees with the requirements."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.lock import CUDA, DEV, MAIN, TORCH, split, write

ROOT = Path(__file__).resolve().parents[2]
A, B, C = ("--hash=sha256:" + digit * 64 for digit in "abc")
COMPILED = (
    f"click==8.5.1 \\\n    {A}\nnvidia-cublas==13.1 ; sys_platform == 'linux' \\\n    {A}\n"
    f"torch==2.13.0 \\\n    {B}\ntriton==3.7.1 \\\n    {A}\n"
)


def pinned(file: str) -> dict[str, set[str]]:
    """Name -> versions, of a requirements or lock file."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)(?:\[\w+\])?==([^\s;\\]+)", (ROOT / file).read_text(), re.M):
        found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), set()).add(version)
    return found


@pytest.mark.parametrize(
    ("requirements", "locks"), [("requirements.txt", (MAIN, TORCH)), ("requirements-dev.txt", (DEV, TORCH))]
)
def test_what_is_required_is_locked_at_that_version(requirements: str, locks: tuple[str, ...]) -> None:
    locked = {name: versions for lock in locks for name, versions in pinned(lock).items()}
    assert {name: locked.get(name) for name in pinned(requirements)} == pinned(requirements)


def test_tests_run_with_the_versions_that_the_app_has() -> None:
    app, developing = pinned(MAIN), pinned(DEV)
    assert len(app) > 70 and {name: developing.get(name) for name in app} == app


@pytest.mark.parametrize("file", [MAIN, TORCH, CUDA, DEV, "requirements-model.txt"])
def test_every_line_has_hashes(file: str) -> None:
    requirements = [r for r in re.split(r"\n(?=\S)", (ROOT / file).read_text()) if not r.startswith("#")]
    assert requirements and all("--hash=sha256:" in r and "==" in r for r in requirements)


def test_the_app_is_installed_from_the_lock_files_only() -> None:
    rule = (ROOT / "Makefile").read_text().partition("$(VENV)/.installed:")[2].partition("\n\n")[0]
    assert "-r requirements.txt" not in rule and rule.count("$(LOCKED)") == 5
    assert "--require-hashes --only-binary :all:" in (ROOT / "Makefile").read_text()


def test_torch_and_what_its_cuda_build_needs_stand_apart() -> None:
    found = split(COMPILED)
    assert [len(found[file]) for file in (MAIN, TORCH, CUDA)] == [1, 1, 2]
    with pytest.raises(ValueError, match="no hash in 'click==8.5.1'"):
        split("click==8.5.1\n")


def test_a_further_build_of_torch_is_admitted_until_its_version_changes(tmp_path: Path) -> None:
    wheel = tmp_path / "torch.whl"
    wheel.write_bytes(b"a build")
    write(COMPILED, COMPILED, tmp_path, [wheel])
    with_wheel = (tmp_path / TORCH).read_text()
    assert with_wheel.count("--hash") == 2 and B in with_wheel and "torch==2.13.0 \\" in with_wheel
    write(COMPILED.replace(B, C), COMPILED, tmp_path, [])
    assert (tmp_path / TORCH).read_text().count("--hash") == 3
    write(COMPILED.replace("torch==2.13.0", "torch==2.14.0"), COMPILED, tmp_path, [])
    assert (tmp_path / TORCH).read_text().count("--hash") == 1
    assert split((tmp_path / MAIN).read_text())[MAIN] == split(COMPILED)[MAIN]
