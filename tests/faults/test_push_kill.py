"""SIGKILL of either side exactly in the middle of a push, over a network that stalls there: the other side stays whole."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from federation.identity import Identity, open_identity
from services.app import AppServices
from tests.faults.quick import open_quick, teach
from tests.faults.relay import Relay
from tests.services.conftest import ROOT
from tests.services.harness import ask
from tests.services.peers.circle_harness import admit, serve

QUESTION, ANSWER = "What is an owl?", "a bird"
HALF = 150_000  # bytes of an update of more than twice as many
RANK = 64

# A peer of its own: serves, and on a word from its standard input does what it is told.
PEER = """
import sys
from contextlib import ExitStack
from pathlib import Path
from tests.faults.quick import open_quick, teach
from tests.services.harness import ask
from tests.services.peers.circle_harness import serve

bench = open_quick(Path(sys.argv[1]), lora_rank=64)
with ExitStack() as stack:
    print(serve(bench, stack).partition("#")[0].rpartition(":")[2], flush=True)
    for line in sys.stdin:
        match line.split():
            case ["teach"]:
                teach(bench, "What is an owl?", "a bird")
                bench.learning.run_pending()
                print(bench.learning.lineage.version, flush=True)
            case ["sync", address]:
                bench.sync.add(address)
                bench.sync.sync()
                print(bench.sync.view().peers[0].words, flush=True)
            case ["merge"]:
                bench.sync.sync()
                print(len(bench.sync.view().merges), flush=True)
            case ["ask"]:
                print(ask(bench, "What is an owl?").text, flush=True)
"""


class Peer:
    def __init__(self, data: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PEER, str(data)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.port = int(self.hear())

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{words}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=30)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def half_received(inbox: Path) -> bool:
    return any(0 < p.stat().st_size < 2 * HALF for p in inbox.glob(".incoming-*.part"))


def empty(folder: Path) -> bool:
    return not list(folder.iterdir())


@pytest.fixture
def app(tmp_path: Path) -> Iterator[AppServices]:
    opened = open_quick(tmp_path / "here", lora_rank=RANK)
    yield opened
    opened.close()


@pytest.fixture
def other(tmp_path: Path, app: AppServices) -> tuple[Path, Identity]:
    """The other peer's folder, and its key, made before it starts."""
    return tmp_path / "there", open_identity(tmp_path / "there" / "federation" / "key.pem")


@pytest.mark.slow
def test_a_sender_killed_in_the_middle_of_a_push_leaves_the_receiver_whole_and_pushes_again(
    app: AppServices, other: tuple[Path, Identity]
) -> None:
    data, identity = other
    admit(app, identity)
    with ExitStack() as stack:
        address, _, key = serve(app, stack).partition("#")
        relay = stack.enter_context(Relay(int(address.rpartition(":")[2]), HALF))
        sender = Peer(data)
        try:
            sender.tell("teach")
            assert sender.hear() == "1"
            sender.tell(f"sync http://127.0.0.1:{relay.port}#{key}")
            assert relay.stalled.wait(timeout=60)
            until(lambda: half_received(app.sync.inbox))
        finally:
            sender.kill()
        relay.cut()
        until(lambda: empty(app.sync.inbox))
        row = app.engine.store.peer(identity.public.text)
        assert (row.etag, row.seen_round) == ("", None) and empty(app.sync._taken)
        app.sync.sync()
        assert app.sync.view().merges == () and app.learning.lineage.version == 0
        assert ask(app, QUESTION).complete

        relay.most_bytes = -1
        sender = Peer(data)
        try:
            sender.tell("ask")
            assert sender.hear() == ANSWER, "the one that was killed has its own adapter too"
            sender.tell(f"sync http://127.0.0.1:{relay.port}#{key}")
            assert sender.hear().startswith("Sent round 1")
        finally:
            sender.kill()
        app.sync.sync()
        assert [m.version for m in app.sync.view().merges] == [1] and ask(app, QUESTION).text == ANSWER


@pytest.mark.slow
def test_a_receiver_killed_in_the_middle_of_a_push_starts_whole_and_gets_it_again(
    app: AppServices, other: tuple[Path, Identity]
) -> None:
    data, identity = other
    teach(app, QUESTION, ANSWER)
    app.learning.run_pending()
    receiver = Peer(data)
    inbox = data / "federation" / "inbox"
    with Relay(receiver.port, HALF) as relay:
        try:
            receiver.tell(f"sync http://127.0.0.1:9#{app.sync.identity.public.text}")  # lets it in; is not there itself
            receiver.hear()
            app.sync.add(f"http://127.0.0.1:{relay.port}#{identity.public.text}")
            syncing = threading.Thread(target=app.sync.sync)
            syncing.start()
            assert relay.stalled.wait(timeout=60)
            until(lambda: half_received(inbox))
        finally:
            receiver.kill()
        relay.cut()
        syncing.join(timeout=60)
        assert not syncing.is_alive()
        [peer] = app.sync.view().peers
        assert peer.failures == 1 and "cannot be reached" in peer.words
        assert app.engine.store.peer(identity.public.text).pushed_etag == ""
        assert ask(app, QUESTION).text == ANSWER and app.learning.lineage.version == 1
        assert not empty(inbox), "what arrived by then lies there"

        receiver = Peer(data)
        relay.target, relay.most_bytes = receiver.port, -1
        try:
            assert empty(inbox)
            receiver.tell("merge")
            assert receiver.hear() == "0"
            app.sync.sync_now()
            app.sync.sync()
            assert app.sync.view().peers[0].words.startswith("Sent round 1")
            receiver.tell("merge")
            assert receiver.hear() == "1"
            receiver.tell("ask")
            assert receiver.hear() == ANSWER
        finally:
            receiver.kill()
