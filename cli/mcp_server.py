"""`app.py mcp`: two tools, teach and recall, for other assistants by the Model Context Protocol, over stdio or HTTP.

A process of its own beside a running app, to whose HTTP API every call goes: what an assistant teaches is stored, learned
and undone like what a person teaches on the page. Over stdio the API key is this process's; over HTTP every caller's own
`Authorization` header is passed on, and none is kept here.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import anyio.to_thread
import httpx
from pydantic import Field

from services.settings import MAX_MESSAGE_CHARACTERS, Settings
from spear_core.errors import ConfigError, SpearError

TIMEOUT_SECONDS = 120.0  # of one request: a reply may wait behind others
MAX_WAIT_SECONDS = 600
POLL_SECONDS = 0.5
HOSTS = ("127.0.0.1", "localhost", "::1")  # where the package mcp refuses requests that name another host
OVER = ("live", "not_kept", "failed", "paused", "waiting", "idle")  # phases in which nothing more comes by itself
INSTRUCTIONS = (
    "A small language model that learns for good from what it is told. Use recall to ask it, and teach when its answer "
    "is wrong or out of date."
)
Text = Annotated[str, Field(min_length=1, max_length=MAX_MESSAGE_CHARACTERS)]


class Teacher:
    """The app's HTTP API as the tools use it. Raises SpearError with the app's own sentence.

    Once `cancelled` is set, by another thread, nothing more is asked or stored, and `wait` ends.
    """

    def __init__(self, url: str, headers: Mapping[str, str], cancelled: threading.Event) -> None:
        self._cancelled = cancelled
        self._client = httpx.Client(base_url=url, headers=dict(headers), timeout=TIMEOUT_SECONDS)

    def __enter__(self) -> Teacher:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, question: str, *, learn: bool) -> dict[str, Any]:
        (model,) = self._call("GET", "/v1/models")["data"]
        said = [{"role": "user", "content": question}]
        return self._call("POST", "/v1/chat/completions", {"model": model["id"], "messages": said, "learn": learn})

    def say(self, message_id: str, **words: Any) -> dict[str, Any]:
        return self._call("POST", "/v1/feedback", {"message_id": message_id, **words})

    def status(self) -> dict[str, Any]:
        return self._call("GET", "/v1/learning")

    def wait(self, seconds: float) -> dict[str, Any]:
        """The learning's status, once nothing more comes or the time is over."""
        end = time.monotonic() + seconds
        while True:
            status = self.status()
            is_over = status["phase"] in OVER and (status["paused"] or not status["pending_wins"])
            if is_over or time.monotonic() >= end:
                return status
            self._cancelled.wait(POLL_SECONDS)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        if self._cancelled.is_set():
            raise SpearError("The call was cancelled.")
        try:
            answer = self._client.request(method, path, json=body)
            content = answer.json()
        except httpx.ConnectError as e:
            raise SpearError(f"The app does not answer at {self._client.base_url}; start it, or name its --url.") from e
        except (httpx.HTTPError, ValueError) as e:
            raise SpearError(f"The app at {self._client.base_url} could not be asked ({e}).") from e
        if answer.status_code != 200:
            raise SpearError(str(content.get("error", {}).get("message", f"The app answered {answer.status_code}.")))
        return dict(content)


def answer_of(reply: Mapping[str, Any]) -> str:
    return str(reply["choices"][0]["message"]["content"])


def teach(teacher: Teacher, question: str, answer: str, wait_seconds: float) -> str:
    """Ask, and correct what comes. Returns what happened, in sentences."""
    reply = teacher.ask(question, learn=True)
    said = answer_of(reply)
    if said.strip() == answer.strip():
        teacher.say(reply["message_id"], vote="up")
        return "The model answers exactly that already; it was told that this is right."
    teacher.say(reply["message_id"], edit=answer)
    status = teacher.wait(wait_seconds)
    return f"It answered: {said}\nIt was taught: {answer}\n{status['headline']} {status['detail']}".strip()


def make_server(url: str, key: str | None) -> Any:
    """The server with its two tools. `key` None: each caller's own Authorization header counts.

    Raises ConfigError where the package mcp is missing.
    """
    try:
        from mcp.server import MCPServer
        from mcp.server.mcpserver import Context
        from mcp.server.mcpserver.exceptions import ToolError
    except ImportError as e:
        raise ConfigError("the package mcp is missing; install it with: pip install -r requirements-mcp.txt") from e

    server = MCPServer("spear", instructions=INSTRUCTIONS)

    async def with_teacher(context: Any, do: Callable[[Teacher], str]) -> str:
        """Call `do` in a thread, which a cancelled call leaves behind: it ends at its next request to the app."""
        given = key and f"Bearer {key}"
        authorization = given or (context.headers or {}).get("authorization", "")
        cancelled = threading.Event()

        def work() -> str:
            with Teacher(url, {"Authorization": authorization} if authorization else {}, cancelled) as teacher:
                return do(teacher)

        try:
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        except SpearError as e:
            raise ToolError(str(e)) from e
        finally:
            cancelled.set()

    async def teach_tool(
        question: Annotated[Text, Field(description="The question, as a person would ask it.")],
        answer: Annotated[Text, Field(description="The right answer, as the model should give it.")],
        context: Context,
        wait_seconds: Annotated[
            float, Field(ge=0, le=MAX_WAIT_SECONDS, description="How long to wait until it is learned.")
        ] = 0,
    ) -> str:
        """Teach the model an answer: it is asked, corrected, trained and checked, and keeps the answer for good."""
        return await with_teacher(context, lambda teacher: teach(teacher, question, answer, wait_seconds))

    async def recall_tool(
        question: Annotated[Text, Field(description="The question, as a person would ask it.")], context: Context
    ) -> str:
        """Ask the model what it knows by now. Nothing is learned from asking."""
        return await with_teacher(context, lambda teacher: answer_of(teacher.ask(question, learn=False)))

    # Annotations are looked up among the module's names, where Context is not: it is imported only for this server
    teach_tool.__annotations__["context"] = recall_tool.__annotations__["context"] = Context
    server.add_tool(teach_tool, name="teach")
    server.add_tool(recall_tool, name="recall")
    return server


def mcp(argv: list[str], settings_from: Callable[[dict[str, object]], Settings]) -> None:
    """`app.py mcp ...`. Raises SpearError with one sentence."""
    parser = argparse.ArgumentParser(
        prog="app.py mcp", description="Tools for other assistants: teach and recall.", allow_abbrev=False
    )
    parser.add_argument("--url", help="where the app runs (default: SPEAR_URL, or this machine and the usual port)")
    parser.add_argument("--http", action="store_true", help="serve over HTTP at /mcp instead of stdio")
    parser.add_argument("--host", default="127.0.0.1", help="with --http (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7861, help="with --http (default: %(default)s)")
    asked = parser.parse_args(argv)
    url = asked.url or os.environ.get("SPEAR_URL") or f"http://127.0.0.1:{settings_from({}).port}"
    if not asked.http:
        # Without logins the app takes any key
        make_server(url, os.environ.get("SPEAR_KEY") or "none").run("stdio")
        return
    if asked.host not in HOSTS:
        raise ConfigError(f"the tools are served on this machine only, not on {asked.host}; put a TLS proxy in front")
    print(f"Tools at http://{asked.host}:{asked.port}/mcp for the app at {url}", file=sys.stderr, flush=True)
    make_server(url, None).run(
        "streamable-http", host=asked.host, port=asked.port, json_response=True, stateless_http=True
    )
