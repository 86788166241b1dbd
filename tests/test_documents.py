"""The documents: links lead somewhere, and the modules, names and files that commands use exist."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = (".venv", ".venv-audit", ".venv-lock", ".venv-flower", "node_modules")
OURS = sorted(p.name for p in ROOT.iterdir() if (p / "__init__.py").is_file())
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCED = re.compile(r"^\s*```.*?^\s*```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"python -m ([a-z_]+(?:\.[a-z_]+)*)")
IMPORT = re.compile(r"from ([a-z_]+(?:\.[a-z_]+)+) import (\w+)")


def documents() -> list[Path]:
    found = [p for p in ROOT.rglob("*.md") if not any(part in SKIPPED for part in p.relative_to(ROOT).parts)]
    return [p for p in found if "data" not in p.relative_to(ROOT).parts[:1]]


def anchors(document: Path) -> set[str]:
    """Of its headings, as GitHub writes them."""
    headings = HEADING.findall(FENCED.sub("", document.read_text()))
    plain = [re.sub(r"[^\w\- ]", "", h.replace("`", "").strip().lower()) for h in headings]
    return {h.replace(" ", "-") for h in plain}


def names_of(module: str) -> set[str]:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, module
    body = ast.parse(Path(spec.origin).read_text()).body
    defined = {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef))}
    assigned = {t.id for n in body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    return defined | assigned


@pytest.mark.parametrize("document", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_its_links_lead_to_files_and_headings_that_exist(document: Path) -> None:
    for link in LINK.findall(FENCED.sub("", document.read_text())):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, heading = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


@pytest.mark.parametrize("document", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_and_names_in_its_commands_exist(document: Path) -> None:
    text = document.read_text()
    for module in COMMAND.findall(text):
        if module.partition(".")[0] in OURS:
            spec = importlib.util.find_spec(module)
            assert spec is not None, module
            is_package = spec.submodule_search_locations is not None
            assert not is_package or importlib.util.find_spec(f"{module}.__main__"), module
    for module, name in IMPORT.findall(text):
        if module.partition(".")[0] in OURS:
            assert name in names_of(module), f"{module} has no {name}"


def test_the_checks_see_what_is_missing(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text("# One, `two`\n\n[x](#one-two) [y](#three)\n")
    with pytest.raises(AssertionError, match="three"):
        test_its_links_lead_to_files_and_headings_that_exist(document)
    document.write_text('python -c "from federation.identity import no_such_name"\n')
    with pytest.raises(AssertionError, match="no_such_name"):
        test_modules_and_names_in_its_commands_exist(document)
    document.write_text("python -m benchmarks.no_such_benchmark\n")
    with pytest.raises(AssertionError, match="no_such_benchmark"):
        test_modules_and_names_in_its_commands_exist(document)
