"""Imports run one way (docs/ARCHITECTURE.md); an arrow the wrong way fails here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {
    "spear_core",
    "feedback_store",
    "federation",
    "services",
    "server",
    "ui",
    "cli",
    "pocket",
    "experiments",
    "benchmarks",
    "tests",
    "app",
}
# package -> the project's packages it may import (besides itself)
ALLOWED: dict[str, set[str]] = {
    "spear_core": set(),
    "feedback_store": set(),
    "federation": {"spear_core"},
    "pocket": set(),
    # of pocket only the world and its simulated user, for the demonstration
    "services": {"spear_core", "feedback_store", "federation", "pocket"},
    "server": {"services", "spear_core", "feedback_store", "federation"},
    "ui": {"server", "services", "spear_core", "feedback_store", "pocket"},
    "cli": {"services", "spear_core", "feedback_store"},
    "experiments": OURS - {"tests", "benchmarks", "app", "ui", "server", "cli"},
    # of the tests only the obvious step, which is what the fast one is measured against
    "benchmarks": OURS - {"app", "ui", "server", "cli"},
    "app": {"cli", "ui", "server", "services", "spear_core", "feedback_store"},
}
# what a package must never see: no database in the core, no torch in the store, no screen below ui
FORBIDDEN: dict[str, set[str]] = {
    "spear_core": {"sqlite3", "sqlite_utils", "gradio", "httpx", "requests", "apscheduler", "fastapi"},
    "feedback_store": {"torch", "transformers", "peft", "gradio"},
    "federation": {"gradio"},
    "services": {"gradio"},
    "server": {"torch", "sqlite3", "sqlite_utils", "peft"},
    "ui": {"torch", "sqlite3", "sqlite_utils", "peft"},
    "cli": {"torch", "gradio", "sqlite3", "sqlite_utils", "peft"},
    "pocket": {"gradio", "sqlite_utils", "peft"},
}


def imports_of(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


def wrong_arrows(package: str, source: str) -> set[str]:
    found = imports_of(source) - {package}
    return ((found & OURS) - ALLOWED[package]) | (found & FORBIDDEN.get(package, set()))


def files_of(package: str) -> list[Path]:
    single = ROOT / f"{package}.py"
    return [single] if single.exists() else sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_run_one_way(package: str) -> None:
    wrong = {
        str(f.relative_to(ROOT)): found for f in files_of(package) if (found := wrong_arrows(package, f.read_text()))
    }
    assert not wrong


def test_benchmarks_use_nothing_of_the_tests_but_the_obvious_step() -> None:
    for file in files_of("benchmarks"):
        modules = [
            n.module for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.ImportFrom) and n.module
        ]
        assert {m for m in modules if m.startswith("tests")} <= {"tests.reference.obvious_step"}, file.name


def test_a_wrong_arrow_would_be_seen() -> None:
    assert wrong_arrows("spear_core", "from services.chat import ChatService") == {"services"}
    assert wrong_arrows("feedback_store", "def f():\n    import torch") == {"torch"}
