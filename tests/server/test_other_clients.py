"""Clients of other projects, in an environment of their own: SPEAR_CLIENTS names its Python (see other_clients.py)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.server.running import Running

PYTHON = os.environ.get("SPEAR_CLIENTS", "")


@pytest.mark.skipif(not PYTHON, reason="SPEAR_CLIENTS names no Python with clients of other projects")
@pytest.mark.parametrize("client", ["litellm", "langchain", "openai", "llm"])
def test_another_client_chats_streams_and_is_heard(server: Running, client: str) -> None:
    script = Path(__file__).with_name("other_clients.py")
    done = subprocess.run(
        [PYTHON, str(script), client, server.url, server.keys["ben"]], capture_output=True, text=True, timeout=300
    )
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["whole"] == found["streamed"] and found["batch"] == [found["whole"]] * 2
    assert (
        found["cut_tokens"] in (3, None) and found["whole"].startswith(found["cut"]) and found["cut"] != found["whole"]
    )
    assert "replies are plain text here" in found["refused"]
