"""docs/API.md and docs/second_front_end.py do what they say, against a running server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.app import open_services
from services.settings import Settings
from tests.pocket_model import FEW_ANCHORS, POCKET_MODEL
from tests.server.running import Running, running
from tests.server.test_roles import TABLE
from tests.services.harness import wrong_task

DOCS = Path(__file__).resolve().parents[2] / "docs"


def commands() -> list[str]:
    """The page's shell blocks after the first, which sets the address and the key."""
    return re.findall(r"^```sh\n(.*?)^```", (DOCS / "API.md").read_text(), re.M | re.S)[1:]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server without logins and with nothing in it: the page ends by erasing everything."""
    folder = tmp_path_factory.mktemp("alone") / "data"
    app_services = open_services(
        Settings(model=str(POCKET_MODEL), data_folder=folder, spear=FEW_ANCHORS), start_jobs=False
    )
    with running(app_services) as started:
        yield started
    app_services.close()


def test_every_curl_example_of_the_page_runs(alone: Running, tmp_path: Path) -> None:
    strict = 'set -euo pipefail\ncurl() { command curl --fail-with-body "$@"; }\n'
    script = strict + "".join(commands())
    env = {"SPEAR": alone.url, "KEY": "any", "PATH": "/usr/bin:/bin:" + str(Path(sys.executable).parent)}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert json.loads((tmp_path / "revision.json").read_text())["revision"]["text"]
    assert '"added":0' in done.stdout, "what was exported is here already"
    assert '{"object":"data.deleted","deleted":true}' in done.stdout and "spear_adapter_version 0.0" in done.stdout


def test_the_page_names_every_route() -> None:
    page = (DOCS / "API.md").read_text()
    shown_as = {
        "{version}": "3",
        "{message_id}": "MESSAGE",
        "{response_id}": "$RESPONSE",
        "{conversation_id}": "$CONVERSATION",
        "{name:path}": "pocket-model",
    }
    paths = {
        re.sub("|".join(map(re.escape, shown_as)), lambda found: shown_as[found.group()], path) for _, path in TABLE
    }
    missing = {path for path in paths - {"/login", "/logout"} if "path}" not in path and path not in page}
    assert not missing


@pytest.mark.slow
def test_a_second_front_end_chats_corrects_and_sees_the_improvement(server: Running) -> None:
    task = wrong_task(server.app_services, relation="capital")
    arguments = [server.url, server.keys["ben"], task.question, f"no, {task.truth}"]
    done = subprocess.run(
        [sys.executable, str(DOCS / "second_front_end.py"), *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    before, revised, _, after = done.stdout.strip().split("\n")
    assert [task.verdict(text) for text in (before, revised, after)] == [False, True, True]
    assert int(after.split("[adapter v")[1].rstrip("]")) > int(before.split("[adapter v")[1].rstrip("]"))
