"""What the hostile tests stand on: how many cases, the running app with three users and things to steal, and the watch.

The victim is ben. cora, a guest, and anna, an owner, do the harm; so does somebody without an account.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hypothesis import HealthCheck, Phase, settings

from feedback_store.errors import StoreError
from services.accounts.users_file import User
from services.user_session import UserSession
from spear_core.errors import SpearError
from tests.server.running import PASSWORD, Running

CASES = int(os.environ.get("SPEAR_HOSTILE_CASES", "2000"))
REPORT = os.environ.get("SPEAR_HOSTILE_REPORT")
IN_FULL = "SPEAR_HOSTILE_CASES" in os.environ
VICTIM, MARK = "ben", "zanzibar-lighthouse"
OWN = ("users.json", "users.json.lock", "data", "gradio")  # what lies in the folder of an attacked app
_STANDS_FOR = re.compile("(BEN|CORA)-([0-9]+)")
TRACES_OF_CODE = re.compile(
    rb'Traceback \(most recent call last\)|File \\?"[^"]+\.py\\?", line \d|Internal Server Error'
)


def share_of_cases(share: float) -> Callable[[Any], Any]:
    """So much of all cases. The short run tries the same ones each time; the full run goes by --hypothesis-seed."""
    return settings(
        max_examples=max(2, round(CASES * share)),
        deadline=None,
        database=None,
        derandomize=not IN_FULL,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


@dataclass
class Surface:
    cases: int = 0
    seconds: float = 0.0
    tracebacks: int = 0
    leaks: int = 0


@dataclass(repr=False)
class Watch:
    """Counts the cases of each surface, and fails one that showed an error of the program or somebody's secret."""

    secrets: dict[str, str] = field(default_factory=dict)  # what it is -> what nobody may be shown
    surfaces: dict[str, Surface] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        return sum(surface.cases for surface in self.surfaces.values())

    @contextmanager
    def case(self, surface: str) -> Iterator[Surface]:
        """One hostile input. What is no SpearError or StoreError in it counts as a traceback."""
        counted = self.surfaces.setdefault(surface, Surface())
        counted.cases += 1
        began = time.perf_counter()
        try:
            yield counted
        except (AssertionError, SpearError, StoreError):
            raise
        except Exception:
            counted.tracebacks += 1
            raise
        finally:
            counted.seconds += time.perf_counter() - began

    def shown(self, surface: str, content: bytes, status: int = 200) -> None:
        """Somebody was shown this. Raises AssertionError for an error of the program or a secret in it."""
        counted = self.surfaces[surface]
        if status >= 500 or TRACES_OF_CODE.search(content):
            counted.tracebacks += 1
            raise AssertionError(f"an error of the program was shown ({status}): {content[:500]!r}")
        self.silent_about(surface, content)

    def silent_about(self, surface: str, content: bytes) -> None:
        for what, secret in self.secrets.items():
            if secret.encode() in content:
                self.surfaces[surface].leaks += 1
                raise AssertionError(f"{what} was shown: {content[:500]!r}")

    def refused(self, error: Exception) -> None:
        """A service or the store refused: in one sentence of words for a person."""
        sentence = str(error)
        assert sentence and "\n" not in sentence.strip() and "Traceback" not in sentence, sentence

    def write(self) -> None:
        """Add what was counted to the report that `python -m benchmarks.hostile` asked for."""
        if REPORT:
            with Path(REPORT).open("a", encoding="utf-8") as out:
                for name, surface in self.surfaces.items():
                    out.write(json.dumps({"surface": name, **asdict(surface)}) + "\n")


class Direct:
    """The app called as uvicorn calls it, without sockets: some hundred requests a second."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.loop = asyncio.new_event_loop()

    def close(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def __call__(
        self, method: str, address: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers, content. `address` is percent-encoded."""
        path, _, query = address.partition("?")
        given = {"host": "127.0.0.1:7860", **(headers or {})}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in given.items()],
            "client": ("127.0.0.1", 40000),
            "server": ("127.0.0.1", 7860),
        }
        return self.loop.run_until_complete(self._ask(scope, body))

    async def _ask(self, scope: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes]:
        status, headers, parts, is_given = 0, {}, [], False
        ended = asyncio.Event()

        async def receive() -> dict[str, Any]:
            nonlocal is_given
            if is_given:
                await ended.wait()
                return {"type": "http.disconnect"}
            is_given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in message["headers"]}
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    ended.set()

        try:
            await asyncio.wait_for(self.app(scope, receive, send), 60)
        except Exception as error:  # uvicorn would write it into its log and show a 500
            if status == 0:
                return 500, {}, repr(error).encode()
            parts.append(b"")
        return status, headers, b"".join(parts)


@dataclass(frozen=True)
class AttackedApp:
    """A running app, what is to be had in it, and the watch."""

    server: Running
    direct: Direct
    watch: Watch
    of_victim: list[str]  # ids of ben's conversation and messages
    own: list[str]  # ids of replies to cora
    sessions: dict[str, str] = field(default_factory=dict)  # name -> what a cookie holds

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text("AttackedApp()")  # of a failing case hypothesis prints all fields of a dataclass

    def named(self, text: str) -> str:
        """With ids in place of BEN-0, CORA-3 and the like, which strategies can write before there is an app."""
        return _STANDS_FOR.sub(lambda m: (self.of_victim if m[1] == "BEN" else self.own)[int(m[2])], text)

    @property
    def folder(self) -> Path:
        return self.server.app_services.engine.data_folder

    def app(self, name: str) -> UserSession:
        return self.server.access.session(self.user(name))

    def user(self, name: str) -> User:
        assert self.server.access.accounts is not None
        found = self.server.access.accounts.user(name)
        assert found is not None
        return found

    def session_of(self, name: str) -> str:
        """The same one at every call."""
        assert self.server.access.sessions is not None
        if name not in self.sessions:
            self.sessions[name] = self.server.access.sessions.begin(self.user(name))
        return self.sessions[name]

    def key(self, name: str | None) -> dict[str, str]:
        return {"authorization": f"Bearer {self.server.keys[name]}"} if name else {}

    def ask(
        self, surface: str, name: str | None, method: str, address: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """One request in a user's name; what it shows is looked through."""
        given = {"content-type": "application/json", "content-length": str(len(body)), **self.key(name)}
        given.update({k.replace("_", "-"): v for k, v in headers.items()})
        status, got, content = self.direct(method, address, given, body)
        self.watch.shown(surface, content, status)
        return status, got, content

    def victims_words(self) -> str:
        """Changes with every word, vote and trace of ben's."""
        store = self.server.app_services.engine.store
        with store.at_one_moment():
            found = [
                store._rows(sql, [VICTIM])
                for sql in (
                    "SELECT * FROM conversations WHERE user = ?",
                    "SELECT m.* FROM messages m JOIN conversations c ON c.id = m.conversation_id WHERE c.user = ?",
                    "SELECT t.* FROM traces t JOIN conversations c ON c.id = t.conversation_id WHERE c.user = ?",
                    "SELECT v.* FROM votes v JOIN messages m ON m.id = v.message_id JOIN conversations c "
                    "ON c.id = m.conversation_id WHERE c.user = ?",
                )
            ]
        return hashlib.sha256(repr(found).encode()).hexdigest()


def secrets_of(server: Running) -> dict[str, str]:
    """What nobody may be shown, and no log and no export may hold."""
    file = json.loads(server.file.read_text())
    pem = (server.app_services.engine.data_folder / "federation" / "key.pem").read_text().splitlines()[1]
    found = {f"the API key of {name}": key for name, key in server.keys.items()}
    found |= {f"the password hash of {name}": str(said["password"]) for name, said in file["users"].items()}
    return found | {
        "what ben said": MARK,
        "a password": PASSWORD,
        "a session": server.access.sessions.begin(User(VICTIM, "guest")) if server.access.sessions else PASSWORD,
        "the private key": pem,
    }


class Ears(logging.Handler):
    """Hears all that is logged, whatever its level, or printed, and keeps what names a secret."""

    def __init__(self, secrets: dict[str, str]) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.secrets = secrets
        self.heard = 0
        self.caught: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.write(self.format(record))

    def write(self, line: str) -> int:
        self.heard += 1
        self.caught += [f"{what} in the log: {line[:300]}" for what, secret in self.secrets.items() if secret in line]
        return len(line)

    @contextmanager
    def listening(self) -> Iterator[None]:
        loggers = [logging.getLogger(name) for name in (None, "uvicorn")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.addHandler(self)
            logger.setLevel(logging.DEBUG)
        try:
            with redirect_stdout(self), redirect_stderr(self):  # type: ignore[type-var]
                yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.removeHandler(self)
                logger.setLevel(level)
