"""The fleet's server, over a grid whose nodes answer what they like."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from federation.flower.start import write_start
from federation.flower.strategy import (
    SERVER_METHODS,
    Contributed,
    ServerMethod,
    ServerState,
    StrategySettings,
    next_state,
)
from tests.federation.circle import ALPHA, BASE, adapter

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("flwr") is None,
    reason="Flower is not installed here; run this with the python of an environment of requirements-flower.txt",
)


class Grid:
    """Node 10 + c answers for client c."""

    def __init__(self, *answers: Callable[[int], Any]) -> None:
        self.answers = answers

    def get_node_ids(self) -> Iterable[int]:
        return range(10, 10 + len(self.answers))

    def send_and_receive(self, messages: Iterable[Any], timeout: float) -> Iterable[Any]:
        for client, answer in enumerate(self.answers):
            metadata = SimpleNamespace(src_node_id=10 + client)
            yield SimpleNamespace(content=answer(client), metadata=metadata, has_error=lambda: False)


def honest(client: int, weight: object = 5) -> Any:
    from federation.flower.messages import packed

    return packed(adapter(client), {"client": client, "weight": weight})


def as_the_first(client: int) -> Any:
    return honest(0)


def without_adapter(client: int) -> Any:
    from flwr.app import RecordDict

    return RecordDict({})


def without_weight(client: int) -> Any:
    from federation.flower.messages import packed

    return packed(adapter(client), {"client": client})


def garbled(client: int) -> Any:
    from federation.flower.messages import ADAPTER

    record = honest(client)
    for array in record[ADAPTER].values():
        array.data = b"PK\x03\x04 no zip"
    return record


def not_finite(client: int) -> Any:
    from federation.flower.messages import packed

    state = {name: torch.full_like(t, math.nan) for name, t in adapter(client).items()}
    return packed(state, {"client": client, "weight": 5})


def of_another_shape(client: int) -> Any:
    from federation.flower.messages import packed

    return packed(adapter(client, rank=1), {"client": client, "weight": 5})


UNREADABLE = [as_the_first, without_adapter, without_weight, garbled, lambda client: honest(client, math.nan)]


@pytest.fixture(autouse=True)
def plain_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's own need a running task."""
    from federation.flower import messages

    monkeypatch.setattr(messages, "Message", lambda content, node, kind: content)


@pytest.mark.parametrize("bad", UNREADABLE)
def test_an_answer_that_cannot_be_read_or_names_another_client_is_left_out_with_one_line(
    bad: Callable[[int], Any], caplog: pytest.LogCaptureFixture
) -> None:
    from federation.flower.messages import ask

    answers = ask(Grid(honest, bad, honest), [0, 1, 2], adapter(9), {}, 1.0)  # type: ignore[arg-type]
    assert [a.update.client for a in answers] == [0, 2]
    assert all(torch.equal(answers[1].update.state[name], t) for name, t in adapter(2).items())
    assert len(caplog.messages) == 1 and "left out" in caplog.messages[0]


@pytest.mark.parametrize("method", SERVER_METHODS)
@pytest.mark.parametrize("bad", [*UNREADABLE, not_finite, of_another_shape])
def test_one_bad_node_neither_ends_the_server_nor_reaches_its_adapter(
    bad: Callable[[int], Any], method: ServerMethod, tmp_path: Path
) -> None:
    from federation.flower import server_app

    start = adapter(9)
    write_start(tmp_path / "start.safetensors", start, BASE, ALPHA)
    config = {"folder": str(tmp_path), "rounds": 2, "clients": 3, "clients-a-round": 3, "method": method}
    config |= {"max-weight": 50, "seed": 1, "timeout-seconds": 1.0}
    server_app.main(Grid(honest, bad, honest), SimpleNamespace(run_config=config))
    settings = StrategySettings(rounds=2, clients=3, clients_a_round=3, method=method, max_weight=50)
    state = ServerState(start)
    for _ in range(2):
        state = next_state(state, [Contributed(c, adapter(c), 5) for c in (0, 2)], settings)
    merged = load_file(tmp_path / "round-0002.safetensors")
    assert all(torch.equal(merged[name], state.adapter[name]) for name in start)


class Leaving:
    """Three nodes when the run begins, `left` afterwards; each answers for the clients that it is asked as."""

    def __init__(self, left: list[int]) -> None:
        self.left, self.calls, self.asked = left, 0, list[list[int]]()

    def get_node_ids(self) -> Iterable[int]:
        self.calls += 1
        return [10, 11, 12] if self.calls == 1 else self.left

    def send_and_receive(self, messages: Iterable[Any], timeout: float) -> Iterable[Any]:
        from federation.flower.messages import WORDS

        messages = list(messages)
        self.asked.append([m.node for m in messages])
        for m in messages:
            answer, metadata = honest(m.content[WORDS]["client"]), SimpleNamespace(src_node_id=m.node)
            yield SimpleNamespace(content=answer, metadata=metadata, has_error=lambda: False)


@pytest.mark.parametrize("left", [[10, 12], []])
def test_where_nodes_have_left_no_other_is_asked_twice_and_the_run_goes_on(
    left: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from federation.flower import messages, server_app

    monkeypatch.setattr(messages, "Message", lambda content, node, kind: SimpleNamespace(content=content, node=node))
    write_start(tmp_path / "start.safetensors", adapter(9), BASE, ALPHA)
    config = {"folder": str(tmp_path), "rounds": 2, "clients": 3, "clients-a-round": 3, "method": "fedavg"}
    grid = Leaving(left)
    server_app.main(grid, SimpleNamespace(run_config={**config, "max-weight": 50, "seed": 1, "timeout-seconds": 1.0}))
    assert grid.asked == [left, left]
    assert (tmp_path / "round-0002.safetensors").exists()
