"""The tools for other assistants, by the official client: over stdio and over HTTP, against the running server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from services.settings import Settings
from spear_core.errors import ConfigError
from tests.server.running import Running

mcp = pytest.importorskip("mcp", reason="mcp is missing; install it with: pip install -r requirements-mcp.txt")
ROOT = Path(__file__).resolve().parents[2]
QUESTION = "What is the capital of Iceland?"


def environment(**given: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "OMP_NUM_THREADS", "HF_HUB_OFFLINE")}
    return {**kept, **given}


def texts(result: Any) -> str:
    return "\n".join(block.text for block in result.content)


def call(transport: Any, *calls: tuple[str, dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """The tools that are offered, and the results of the calls."""

    async def work() -> tuple[list[Any], list[Any]]:
        async with mcp.Client(transport) as client:
            tools = (await client.list_tools()).tools
            return tools, [await client.call_tool(name, arguments) for name, arguments in calls]

    return anyio.run(work)


def by_stdio(server: Running, name: str | None) -> Any:
    key = {"SPEAR_KEY": server.keys[name]} if name else {"SPEAR_KEY": "spear-wrong"}
    arguments = [str(ROOT / "app.py"), "mcp", "--url", server.url]
    return mcp.StdioServerParameters(command=sys.executable, args=arguments, env=environment(**key), cwd=str(ROOT))


@pytest.fixture(scope="module")
def over_http(server: Running) -> Iterator[str]:
    """The address of the tools."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(ROOT / "app.py"), "mcp", "--http", "--port", str(port), "--url", server.url]
    process = subprocess.Popen(command, env=environment(), cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with socket.socket() as knocking:
                if knocking.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
def test_an_assistant_teaches_and_recalls_over_stdio(server: Running) -> None:
    tools, results = call(
        by_stdio(server, "anna"),
        ("recall", {"question": QUESTION}),
        ("teach", {"question": QUESTION, "answer": "The capital of Iceland is Reykjavik.", "wait_seconds": 300}),
        ("recall", {"question": QUESTION}),
    )
    assert sorted(tool.name for tool in tools) == ["recall", "teach"]
    assert all(tool.description for tool in tools)
    before, taught, after = results
    assert not any(result.is_error for result in results), [texts(result) for result in results]
    assert "Reykjavik" not in texts(before)
    assert "It was taught: The capital of Iceland is Reykjavik." in texts(taught)
    learned = server.as_user("anna").get("/v1/learned").json()["data"]
    assert [view["right"] for view in learned if view["question"] == QUESTION] == [
        "The capital of Iceland is Reykjavik."
    ]
    if "answers now" in texts(taught):
        assert "Reykjavik" in texts(after)


@pytest.mark.slow
def test_over_http_each_caller_is_who_its_key_says(server: Running, over_http: str) -> None:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    results = {}
    for name, key in (("ben", server.keys["ben"]), ("nobody", "spear-wrong")):
        client = httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=120)
        _, (results[name],) = call(
            streamable_http_client(over_http, http_client=client), ("recall", {"question": "What is an owl?"})
        )
    assert not results["ben"].is_error and texts(results["ben"])
    assert results["nobody"].is_error and "Log in first" in texts(results["nobody"])
    asked = [c.title for c in server.app_services.engine.store.conversations() if c.user == "ben"]
    assert "What is an owl?" in asked


@pytest.mark.slow
def test_over_http_another_website_reaches_no_tool(over_http: str) -> None:
    """Neither by a name that it points at this machine, nor from a page of its own."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    usual = {"Accept": "application/json, text/event-stream"}
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        assert httpx.post(over_http, json=message, headers={**usual, **headers}).status_code in (403, 421)


def test_what_only_asks_the_app_imports_nothing_that_computes() -> None:
    code = "import sys, cli.mcp_server; print({'torch', 'transformers', 'gradio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.2", "example.org"])
def test_tools_are_served_only_where_other_names_are_refused(host: str) -> None:
    from cli.mcp_server import mcp as serve_tools

    with pytest.raises(ConfigError, match="served on this machine only"):
        serve_tools(["--http", "--url", "http://127.0.0.1:9", "--host", host], lambda flags: Settings())


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("recall", {"question": ""}, "question"),
        ("recall", {}, "question"),
        ("teach", {"question": "x"}, "answer"),
        ("teach", {"question": "x", "answer": " "}, "The edited reply is empty"),
        ("teach", {"question": "x", "answer": "y", "wait_seconds": -1}, "wait_seconds"),
    ],
)
def test_what_cannot_be_taught_is_said(
    server: Running,
    name: str,
    arguments: dict[str, Any],
    sentence: str,
) -> None:
    from cli.mcp_server import make_server

    _, (result,) = call(make_server(server.url, server.keys["ben"]), (name, arguments))
    assert result.is_error and sentence in texts(result)


def test_an_app_that_does_not_run_is_named() -> None:
    from cli.mcp_server import make_server

    _, (result,) = call(make_server("http://127.0.0.1:9", "x"), ("recall", {"question": "x"}))
    assert result.is_error and "The app does not answer at http://127.0.0.1:9" in texts(result)


def test_a_call_that_is_cancelled_asks_the_app_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.mcp_server import make_server

    asked: list[str] = []

    def request(self: httpx.Client, method: str, path: str, **more: Any) -> httpx.Response:
        asked.append(path)
        training = {"phase": "training", "paused": False, "pending_wins": 1, "headline": "Training.", "detail": ""}
        reply = {"message_id": "1", "choices": [{"message": {"content": "Oslo."}}]}
        return httpx.Response(200, json={"data": [{"id": "a model"}], **training, **reply})

    monkeypatch.setattr(httpx.Client, "request", request)
    arguments = {"question": QUESTION, "answer": "Reykjavik.", "wait_seconds": 20}

    async def work() -> int:
        async with mcp.Client(make_server("http://127.0.0.1:9", "x")) as client:
            with anyio.move_on_after(3) as given:
                await client.call_tool("teach", arguments)
            assert given.cancelled_caught and "/v1/learning" in asked
            await anyio.sleep(1)
            return len(asked)

    begun = time.monotonic()
    count = anyio.run(work)
    assert len(asked) == count and time.monotonic() - begun < 15
