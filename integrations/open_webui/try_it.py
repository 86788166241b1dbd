"""Open WebUI in front of SPEAR, both started here on loopback: chats and ratings over Open WebUI's HTTP API.

    python integrations/open_webui/try_it.py E/bin/open-webui [--folder SCRATCH]

README.md says how to make the environment E. Prints what arrived; ends with status 1 where something did not.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
FUNCTION = Path(__file__).with_name("rating_function.py")
START_SECONDS = 600.0
WAIT_SECONDS = 60.0
# Nothing is fetched, and no request of its own reaches the model
SETTINGS = {
    "OFFLINE_MODE": "true",
    "ENABLE_OLLAMA_API": "false",
    "RAG_EMBEDDING_ENGINE": "openai",
    "ENABLE_TITLE_GENERATION": "false",
    "ENABLE_TAGS_GENERATION": "false",
    "ENABLE_FOLLOW_UP_GENERATION": "false",
    "ANONYMIZED_TELEMETRY": "false",
    "ENABLE_VERSION_UPDATE_CHECK": "false",
}


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], url: str, log: Path, **environment: str) -> Iterator[httpx.Client]:
    """A server as a process of its own, until it answers at `url`; ended afterwards."""
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=log.parent, stdout=out, stderr=out, env={**os.environ, **environment}, start_new_session=True
        )
        try:
            with httpx.Client(base_url=url, timeout=120) as client:
                wait_for(lambda: _answers(client, process, log), START_SECONDS)
                yield client
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def _answers(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> bool:
    if process.poll() is not None:
        raise SystemExit(f"the server ended; its last words:\n{log.read_text()[-3000:]}")
    try:
        return client.get("/").status_code < 500
    except httpx.TransportError:
        return False


def wait_for(is_so: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """What `is_so` returns as soon as it is something. Raises SystemExit after so many seconds."""
    end = time.monotonic() + seconds
    while not (found := is_so()):
        if time.monotonic() > end:
            raise SystemExit(f"nothing came in {seconds:.0f} seconds")
        time.sleep(0.5)
    return found


class OpenWebUI:
    """An administrator's client."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        user = {"name": "Ada", "email": "ada@example.com", "password": "a long password"}
        token = self.post("/api/v1/auths/signup", user)["token"]
        client.headers["Authorization"] = f"Bearer {token}"

    def post(self, path: str, body: Any) -> Any:
        """The answer's JSON. Raises SystemExit for a refusal."""
        answer = self.client.post(path, json=body)
        if answer.status_code != 200:
            raise SystemExit(f"Open WebUI answered {path} with {answer.status_code}: {answer.text[:500]}")
        return answer.json()

    def install(self, url: str) -> None:
        """The function of this folder, switched on."""
        meta = {"description": "Sends ratings to SPEAR."}
        function = {"id": "spear_ratings", "name": "SPEAR ratings", "content": FUNCTION.read_text(), "meta": meta}
        made = self.post("/api/v1/functions/create", function)
        print("function:", made["type"], made["id"])
        self.post("/api/v1/functions/id/spear_ratings/valves/update", {"url": url, "key": "any"})
        self.post("/api/v1/functions/id/spear_ratings/toggle", {})

    def chat(self, model: str, question: str) -> tuple[dict[str, Any], str, str]:
        """Ask, and store the chat as its page does. Returns the chat, the id of the reply and its text."""
        asked = {"model": model, "messages": [{"role": "user", "content": question}], "stream": False}
        reply = str(self.post("/api/chat/completions", asked)["choices"][0]["message"]["content"])
        ids = str(uuid.uuid4()), str(uuid.uuid4())
        messages = {
            ids[0]: {"id": ids[0], "parentId": None, "childrenIds": [ids[1]], "role": "user", "content": question},
            ids[1]: {
                "id": ids[1],
                "parentId": ids[0],
                "childrenIds": [],
                "role": "assistant",
                "content": reply,
                "model": model,
            },
        }
        chat = {"title": question, "models": [model], "history": {"messages": messages, "currentId": ids[1]}}
        return self.post("/api/v1/chats/new", {"chat": chat}), ids[1], reply

    def rate(self, chat: dict[str, Any], message_id: str, model: str, rating: int, comment: str = "") -> None:
        """As the buttons under a reply do."""
        data = {"rating": rating, "model_id": model, "comment": comment}
        meta = {"model_id": model, "message_id": message_id, "chat_id": chat["id"], "message_index": 2}
        said = {"type": "rating", "data": data, "meta": meta, "snapshot": {"chat": chat}}
        self.post("/api/v1/evaluations/feedback", said)


def learned(spear: httpx.Client, question: str) -> dict[str, Any] | None:
    """What SPEAR was told about the reply to this question."""
    entries = spear.get("/v1/learned").json()["data"]
    return next((entry for entry in entries if entry["question"] == question), None)


def try_all(spear: httpx.Client, webui: OpenWebUI) -> None:
    """Chat and rate three times. Raises SystemExit where a rating does not arrive as it should."""
    model = spear.get("/v1/models").json()["data"][0]["id"]
    wait_for(lambda: model in [m["id"] for m in webui.client.get("/api/models").json()["data"]])
    liked, disliked, hinted = "What is an owl?", "What is a violin?", "What is the capital of Norway?"
    for question, rating, comment, source in (
        (liked, 1, "", "liked"),
        (disliked, -1, "", "no_hint"),
        (hinted, -1, "no, Oslo", "unfixed"),
    ):
        chat, message_id, reply = webui.chat(model, question)
        print(f"asked {question!r}, answered {reply!r}")
        webui.rate(chat, message_id, model, rating, comment)
        entry = wait_for(lambda question=question: learned(spear, question))
        print(f"rated {rating:+d} {comment!r}; SPEAR knows it as {entry['source']!r}, {entry['status']!r}")
        if entry["source"] != source:
            raise SystemExit(f"expected {source!r}")


def main() -> None:
    """Start both, try, end both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("open_webui", type=Path, help="the program open-webui of its environment")
    parser.add_argument("--folder", type=Path, help="for data and logs (default: a temporary one)")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the two servers are ended on the way
    ports = free_port(), free_port()
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        model, data = str(ROOT / "assets" / "pocket-model"), str(folder.resolve() / "data")
        command = [
            sys.executable,
            str(ROOT / "app.py"),
            "--model",
            model,
            "--data-folder",
            data,
            "--port",
            str(ports[0]),
        ]
        spear = stack.enter_context(running(command, urls[0], folder / "spear.log"))
        spear.post("/v1/learning", json={"paused": True})  # what is shown is that ratings arrive
        settings = {**SETTINGS, "DATA_DIR": str(folder.resolve() / "webui"), "WEBUI_SECRET_KEY": secrets.token_hex(16)}
        connection = {"OPENAI_API_BASE_URL": f"{urls[0]}/v1", "OPENAI_API_KEY": "any"}
        serve = [str(asked.open_webui.absolute()), "serve", "--host", "127.0.0.1", "--port", str(ports[1])]
        client = stack.enter_context(running(serve, urls[1], folder / "webui.log", **settings, **connection))
        webui = OpenWebUI(client)
        webui.install(urls[0])
        try_all(spear, webui)
        print("all ratings arrived")


if __name__ == "__main__":
    main()
