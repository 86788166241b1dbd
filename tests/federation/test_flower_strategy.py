"""What a fleet's server decides: streams, clients, learning rates, and the next adapter."""

from __future__ import annotations

import math
import re

import pytest
import torch

from federation.errors import FederationError
from federation.flower.strategy import (
    SERVER_METHODS,
    Contributed,
    ServerMethod,
    ServerState,
    StrategySettings,
    choose_clients,
    fitting,
    learning_rate,
    next_state,
)
from federation.flower.streams import PURPOSES, stream_seed
from tests.federation.circle import adapter

A0 = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"
B0 = "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight"


def moved(by: float) -> dict[str, torch.Tensor]:
    return {name: tensor + by for name, tensor in adapter(0).items()}


def test_no_two_places_share_a_stream() -> None:
    # seed + round + client would give (1, 2) and (2, 1) the same
    found = {stream_seed(s, p, r, c) for s in (1, 2) for p in PURPOSES for r in range(5) for c in range(5)}
    assert len(found) == 2 * len(PURPOSES) * 25
    assert stream_seed(1, "play", 2, 3) == stream_seed(1, "play", 2, 3)


def test_the_same_seed_chooses_the_same_clients_and_rounds_differ() -> None:
    settings = StrategySettings(clients=20, clients_a_round=5)
    rounds = [choose_clients(settings, 7, r) for r in range(10)]
    assert rounds == [choose_clients(settings, 7, r) for r in range(10)]
    assert all(len(set(chosen)) == 5 for chosen in rounds)
    assert len({tuple(chosen) for chosen in rounds}) > 5


def test_the_rate_warms_up_over_a_tenth_and_falls_as_a_cosine_to_its_end() -> None:
    settings = StrategySettings(rounds=21, learning_rate=1e-2, final_learning_rate=1e-3)
    rates = [learning_rate(settings, r) for r in range(21)]
    assert rates[:3] == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2])  # ceil(2.1) = 3 rounds of warm-up
    assert rates[3] == pytest.approx(1e-2)
    assert rates[-1] == pytest.approx(1e-3)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    half = 1e-3 + 9e-3 * (1 + math.cos(math.pi * 8 / 17)) / 2
    assert rates[11] == pytest.approx(half)


def test_fedavg_weighs_by_wins_and_a_client_without_wins_has_no_voice() -> None:
    updates = [Contributed(0, moved(1.0), 3), Contributed(1, moved(-1.0), 1), Contributed(2, moved(100.0), 0)]
    merged = next_state(ServerState(adapter(0)), updates, StrategySettings(clients=3, clients_a_round=3)).adapter
    assert torch.allclose(merged[B0], adapter(0)[B0] + 0.5)  # (3 - 1) / 4


def test_a_round_without_any_win_changes_nothing() -> None:
    state = ServerState(adapter(0))
    assert next_state(state, [Contributed(0, moved(1.0), 0)], StrategySettings()) is state


def test_the_order_of_arrival_changes_no_bit() -> None:
    updates = [Contributed(c, adapter(c), c) for c in range(1, 6)]
    settings = StrategySettings()
    one = next_state(ServerState(adapter(0)), updates, settings).adapter
    other = next_state(ServerState(adapter(0)), updates[::-1], settings).adapter
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", ["median", "trimmed_mean"])
def test_robust_methods_are_not_moved_by_one_liar(method: str) -> None:
    updates = [Contributed(c, moved(0.1), 5) for c in range(4)] + [Contributed(4, moved(1000.0), 10**9)]
    merged = next_state(ServerState(adapter(0)), updates, StrategySettings(method=method)).adapter  # type: ignore[arg-type]
    assert torch.allclose(merged[B0], adapter(0)[B0] + 0.1, atol=1e-5)


def test_fedadam_and_fedyogi_by_hand() -> None:
    # d = 0.1, m = 0.1 d = 0.01, v0 = tau^2 = 2.5e-5
    # adam: v = .99 * 2.5e-5 + .01 * .01 = 1.2475e-4; yogi: v = 2.5e-5 + .01 * .01 = 1.25e-4, since v < d^2
    for method, v in (("fedadam", 1.2475e-4), ("fedyogi", 1.25e-4)):
        settings = StrategySettings(method=method)  # type: ignore[arg-type]
        state = next_state(ServerState(adapter(0)), [Contributed(0, moved(0.1), 1)], settings)
        step = 1e-2 * 0.01 / (math.sqrt(v) + 5e-3)
        assert torch.allclose(state.adapter[B0] - adapter(0)[B0], torch.full((7, 2), step), atol=1e-6)
        assert torch.allclose(state.second_moment[B0], torch.full((7, 2), v), atol=1e-9)


@pytest.mark.parametrize("method", SERVER_METHODS)
@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({**adapter(1), B0: torch.full((7, 2), math.nan)}, "not finite"),
        ({**adapter(1), B0: torch.full((7, 2), math.inf)}, "not finite"),
        ({**adapter(1), B0: torch.full((7, 2), 1e30)}, "too large"),
        ({**adapter(1), B0: torch.zeros(7, 1)}, r"has shape \(7, 1\)"),
        ({**adapter(1), B0: torch.zeros(7, 2, dtype=torch.int32)}, "not a matrix of float32"),
        ({A0: adapter(1)[A0]}, "lacks 3 tensors"),
        ({**adapter(1), "more": torch.zeros(1)}, "1 tensors too many"),
    ],
)
def test_an_update_that_does_not_fit_is_left_out_with_one_line(
    method: ServerMethod, bad: dict[str, torch.Tensor], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    state, settings = ServerState(adapter(0)), StrategySettings(method=method)
    honest = [Contributed(c, moved(0.1), 5) for c in range(3)]
    heard = fitting(state, [*honest, Contributed(3, bad, 5)])
    assert heard == honest
    [line] = caplog.messages
    assert line.startswith("client 3 is left out of this round: ") and re.search(says, line)
    assert all(t.isfinite().all() for t in next_state(state, heard, settings).adapter.values())


def test_a_reply_that_lacks_an_array_is_left_out_and_never_counts_as_zero() -> None:
    # Flower 1.41.0's own weighted mean would take the missing matrix for zeros and halve it
    state, settings = ServerState(adapter(0)), StrategySettings(clients=2, clients_a_round=2)
    whole, partial = Contributed(0, moved(1.0), 5), Contributed(1, {n: t for n, t in moved(1.0).items() if n != B0}, 5)
    merged = next_state(state, fitting(state, [whole, partial]), settings).adapter
    assert all(torch.allclose(merged[name], tensor + 1.0) for name, tensor in adapter(0).items())
    with pytest.raises(FederationError):  # where nobody looked, it is refused whole
        next_state(state, [whole, partial], settings)


@pytest.mark.parametrize("method", SERVER_METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_average_stays_float32_and_integers_are_refused(method: ServerMethod, dtype: torch.dtype) -> None:
    state, settings = ServerState(adapter(0)), StrategySettings(method=method)
    updates = [Contributed(c, {n: t.to(dtype) for n, t in moved(0.1).items()}, 5) for c in range(3)]
    assert fitting(state, updates) == updates
    assert {t.dtype for t in next_state(state, updates, settings).adapter.values()} == {torch.float32}
    integers = {n: t.to(torch.int64) if n == B0 else t for n, t in moved(0.1).items()}
    assert fitting(state, [Contributed(0, integers, 5)]) == []


def test_a_first_round_sets_no_bound_by_matrices_that_are_still_zero() -> None:
    start = {name: t if name.endswith("A.weight") else torch.zeros_like(t) for name, t in adapter(0).items()}
    update = Contributed(0, adapter(1), 1)
    assert fitting(ServerState(start), [update]) == [update]


def test_a_setting_out_of_range_is_refused_by_name() -> None:
    with pytest.raises(FederationError, match="federation.clients_a_round must be 1 to the number of clients"):
        StrategySettings(clients=2, clients_a_round=3)
