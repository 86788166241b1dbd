"""A client of the page that sends events as it likes, and reads what comes back."""

from __future__ import annotations

import secrets
from typing import Any

import httpx

ENDS = ("process_completed", "unexpected_error", "close_stream")


class Client:
    """`http` has the cookies of whoever it is."""

    def __init__(self, role: str, http: httpx.Client) -> None:
        self.role = role
        self.http = http
        self.session = secrets.token_hex(4)
        config = self.http.get("/config").json()
        self.events = [event for event in config["dependencies"] if event["backend_fn"]]
        self.components = {component["id"]: component["type"] for component in config["components"]}

    def takes(self, event: dict[str, Any], kind: str) -> list[int]:
        """Which of an event's inputs are components of this kind."""
        return [place for place, i in enumerate(event["inputs"]) if self.components[i] == kind]

    def fire(self, event: dict[str, Any], data: list[Any], said: Any) -> str:
        """The refusal, or all that came back."""
        body = {"data": data, "fn_index": event["id"], "session_hash": self.session, "event_data": said}
        joined = self.http.post("/gradio_api/queue/join", json=body)
        if joined.status_code != 200:
            return joined.text
        lines = []
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                lines.append(line)
                if any(end in line for end in ENDS):
                    break
        return "\n".join(lines)
