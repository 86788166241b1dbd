"""Drives the real app in a real browser: starts app.py as a process, and names what a person does on the page."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Error, Locator, Page, TimeoutError, expect, sync_playwright

from services.learning.whitening_file import FOLDER
from tests.forked import Forked
from tests.pocket_model import FEW_ANCHORS

ROOT = Path(__file__).resolve().parents[2]
MODEL = Path(os.environ.get("SPEAR_TEST_MODEL", ROOT / "assets" / "pocket-model"))
START_SECONDS = 240.0  # a cold disk on two busy cores; warm it takes a fraction
EXPECT_MS = 20_000
REPLY_MS = 180_000  # the limits are for a slow processor that others share; nothing is measured by them
ROUND_MS = 600_000
expect.set_options(timeout=EXPECT_MS)
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",  # drawn by the processor that the model needs
]


# What a model's first start on a new data folder computes for seconds, from the weights alone
_features = Path(tempfile.mkdtemp(prefix="question-features-")) / FOLDER
atexit.register(shutil.rmtree, _features.parent, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class App:
    """app.py as a process of its own, on one port and one data folder, over any number of starts."""

    def __init__(
        self, data_folder: Path, port: int | None = None, flags: Sequence[str] = (), model: str = str(MODEL)
    ) -> None:
        self.data_folder, self.model = data_folder, model
        self.flags = flags
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: Forked | None = None
        self.said: list[str] = []  # lines of stdout

    def command(self) -> list[str]:
        flags = ["--model", self.model, "--data-folder", str(self.data_folder), "--port", str(self.port)]
        return [str(ROOT / "app.py"), *flags, "--config", str(self._config()), *self.flags]

    def _config(self) -> Path:
        file = self.data_folder.with_name(f"{self.data_folder.name}.toml")
        file.write_text("\n".join(["[spear]", *(f"{key} = {value}" for key, value in FEW_ANCHORS.items()), ""]))
        return file

    def start(self) -> float:
        """Returns the seconds until the app said that it is ready."""
        began = time.monotonic()
        self.said = []
        kept = self.data_folder / FOLDER
        if _features.is_dir() and not kept.exists():
            shutil.copytree(_features, kept)
        log = (self.data_folder.parent / f"{self.data_folder.name}.log").open("a")
        self.process = Forked(self.command(), ROOT, log)
        threading.Thread(target=self._listen, daemon=True).start()
        while not self.said:
            if self.process.poll() is not None or time.monotonic() - began > START_SECONDS:
                self.stop()
                raise RuntimeError(f"the app did not start; see {log.name}:\n{Path(log.name).read_text()[-2000:]}")
            time.sleep(0.05)
        return time.monotonic() - began

    def fail_to_start(self) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a start that ends by itself."""
        said = self.data_folder.parent / "said"
        with said.open("w") as log:
            process = Forked(self.command(), ROOT, log)
        out = process.stdout.read()
        return process.wait(60), out, said.read_text()

    def _listen(self) -> None:
        assert self.process is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30.0) -> int:
        """Ask the app to end, and wait. Returns its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(seconds)
            if (kept := self.data_folder / FOLDER).is_dir():
                shutil.copytree(kept, _features, dirs_exist_ok=True)
            return code
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


class Visitor:
    """A person in front of the page."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        page.set_default_timeout(20_000)

    def open(self) -> None:
        try:
            self.page.goto(self.url, timeout=REPLY_MS)
        except Error as e:
            if "ERR_ABORTED" not in e.message:
                raise
            # A page whose app was away and is back loads itself again; at this moment that ends our own request.
            self.page.goto(self.url, timeout=REPLY_MS)
        self.page.wait_for_selector("#message textarea", timeout=REPLY_MS)  # on one busy core, half a minute
        expect(self.card).to_be_visible()

    @property
    def card(self) -> Locator:
        return self.page.locator("#status-card .card")

    @property
    def replies(self) -> Locator:
        return self.page.locator("#chat [data-testid=bot]")

    @property
    def said(self) -> Locator:
        return self.page.locator("#chat [data-testid=user]")

    def last_reply(self) -> str:
        """The words of the newest reply, without the line that marks a revision."""
        expect(self.replies.last.locator("p").last).to_have_text(re.compile(r"\S"), timeout=REPLY_MS)
        return self.replies.last.locator("p").last.inner_text().strip()

    def ask(self, text: str) -> str:
        asked, answered = self.said.count(), self.replies.count()
        self.page.fill("#message textarea", text)
        self.page.press("#message textarea", "Enter")
        expect(self.said).to_have_count(asked + 1, timeout=REPLY_MS)
        expect(self.page.locator("#message textarea")).to_have_value("")
        expect(self.replies).to_have_count(answered + 1, timeout=REPLY_MS)
        self.wait_until_idle()
        return self.last_reply()

    def wait_until_idle(self) -> None:
        """The Send button is back, so the reply is complete and stored."""
        expect(self.page.locator("#message .submit-button")).to_be_visible(timeout=REPLY_MS)
        expect(self.page.locator("#message .stop-button")).to_have_count(0)

    def thumbs_down(self) -> None:
        self.page.get_by_label("Dislike", exact=True).last.click()
        expect(self.page.locator("#hint-box")).to_be_visible()

    def give_hint(self, hint: str) -> str:
        before = self.replies.count()
        self.page.fill("#hint textarea", hint)
        self.page.click("#revise")
        expect(self.replies).to_have_count(before + 1, timeout=REPLY_MS)
        self.wait_until_idle()
        expect(self.page.get_by_role("button", name="Better")).to_be_visible()
        return self.last_reply()

    def better(self) -> None:
        self.page.get_by_role("button", name="Better").click()
        expect(self.replies.last).to_contain_text("confirmed")

    def still_wrong(self) -> None:
        self.page.get_by_role("button", name="Still wrong").click()

    def wait_for_phase(self, *phases: str) -> str:
        """Wait until the card shows one of `phases`; returns which."""
        wanted = ", ".join(f"#status-card .card[data-phase={phase}]" for phase in phases)
        try:
            self.page.wait_for_selector(wanted, timeout=ROUND_MS)
        except TimeoutError as e:
            status = self.page.request.get(f"{self.url}/v1/learning").text()
            raise AssertionError(f"the card says {self.card.inner_text()!r}, the app {status}") from e
        return self.card.get_attribute("data-phase") or ""

    def open_tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()
        expect(self.page.locator(f"#{name.lower()}-page")).to_be_visible()

    def choose_demo_speed(self, name: str) -> None:
        self.page.locator("#demo-speed label", has_text=name).click()
        expect(self.page.get_by_role("radio", name=name)).to_be_checked()

    def open_settings(self) -> None:
        if not self.page.locator("#no-learning").is_visible():
            self.page.click("#settings > button")
        expect(self.page.locator("#no-learning")).to_be_visible()

    def new_conversation(self) -> None:
        self.page.click("#new-conversation")
        expect(self.said).to_have_count(0)


def says(reply: str, answer: str) -> bool:
    """Whether the reply gives this answer, as a word of its own."""
    return re.search(rf"\b{re.escape(answer)}\b", reply, re.IGNORECASE) is not None
