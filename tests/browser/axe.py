"""axe-core, fetched once through npm at a pinned version and checked against its digest. Not part of the repository."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

VERSION = "4.14.1"
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "spear-chat" / f"axe-core-{VERSION}.min.js"
NPM_SECONDS = 60
RUN = "() => axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations)"


def axe_script() -> str:
    """The script; the test is skipped, with the reason, where it cannot be had."""
    if not CACHE.exists():
        _fetch()
    return CACHE.read_text(encoding="utf-8")


def _fetch() -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is missing; axe-core is fetched through it")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"axe-core@{VERSION}", "--pack-destination", folder, "--silent"]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=NPM_SECONDS, cwd=folder)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            pytest.skip("npm's registry cannot be reached; axe-core is fetched from it")
        packed = Path(folder) / f"axe-core-{VERSION}.tgz"
        digest = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
        assert digest == SHA512, "this is not the axe-core that was pinned"
        with tarfile.open(packed) as tar:
            script = tar.extractfile("package/axe.min.js")
            assert script is not None
            CACHE.parent.mkdir(parents=True, exist_ok=True)
            CACHE.write_bytes(script.read())


def serious_findings(page: Page) -> list[str]:
    """What axe calls serious or critical on the page as it stands: rule, and where."""
    if not page.evaluate("typeof window.axe === 'object'"):
        page.evaluate(axe_script())
    found: list[dict[str, Any]] = page.evaluate(RUN)
    return [
        f"{finding['id']} at {node['target']}: {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
        for finding in found
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"]
    ]
