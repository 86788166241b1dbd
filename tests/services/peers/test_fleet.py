"""A fleet's ClientApp side against real apps: what one was taught the other answers, by way of a server that only averages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from federation.errors import FederationError
from federation.flower.resident import FleetAdapter, Resident
from federation.flower.start import read_start, write_start
from federation.flower.strategy import Contributed, ServerState, StrategySettings, next_state
from services.app import AppServices
from tests.services.conftest import OpenPeer
from tests.services.harness import ask, correct, wrong_task
from tests.services.peers.circle_harness import admit, serve


@contextmanager
def syncing(app: AppServices) -> Iterator[None]:
    """The app's schedule, every half second."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.5):
            app.sync.sync()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_a_fleet_brings_what_one_app_was_taught_to_another(open_peer: OpenPeer, tmp_path: Path) -> None:
    taught, new = open_peer("taught"), open_peer("new")
    task = wrong_task(taught)
    correct(taught, task)
    taught.learning.run_pending()
    taught.sync.sync()
    file = tmp_path / "start.safetensors"
    write_start(file, taught.engine.shared_models.initial, taught.engine.base, taught.engine.config.lora_alpha)
    start = read_start(file)
    with ExitStack() as stack:
        residents = []
        for name, app, wait in (("taught", taught, 2.0), ("new", new, 120.0)):
            folder = tmp_path / f"node of {name}"
            folder.mkdir()
            residents.append(Resident(serve(app, stack), folder, wait))
            admit(app, residents[-1].identity)

        nothing_yet = FleetAdapter.of(start.adapter, {**start.words, "wins": 0})
        update, wins = residents[0].exchange(nothing_yet)
        assert wins == 1
        with pytest.raises(FederationError, match="no update to give yet"):
            residents[1].exchange(nothing_yet)

        settings = StrategySettings(clients=2, clients_a_round=2)
        state = next_state(ServerState(start.adapter), [Contributed(0, update, wins)], settings)
        fleet = FleetAdapter.of(state.adapter, {**start.words, "wins": wins})
        stack.enter_context(syncing(taught))
        stack.enter_context(syncing(new))
        again, wins = residents[0].exchange(fleet)  # nothing new to it: its own adapter, after the wait
        assert wins == 1 and all((again[name] == update[name]).all() for name in update)
        _, wins = residents[1].exchange(fleet)
        assert wins == 0, "it was taught nothing itself"
    [merge] = new.sync.view().merges
    assert merge.version == 1
    assert task.verdict(ask(new, task.question, learn=False).text)


def test_a_fleets_start_is_never_written_over_and_another_file_is_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "start.safetensors"
    file.write_bytes(b"something else")
    with pytest.raises(FederationError, match="exists; nothing was written"):
        write_start(file, {}, "0123456789abcdef", 32)
    assert file.read_bytes() == b"something else"
    with pytest.raises(FederationError, match="app.py data first-adapter"):
        read_start(file)
