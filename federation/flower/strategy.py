"""What a fleet's server decides: who takes part, at what learning rate, how updates become the next adapter. No network.

The in-process simulation and the Flower ServerApp call these functions, so one seed gives both the same adapter.
FedAdam and FedYogi: Reddi et al. 2021 (arXiv 2003.00295), with the paper's server settings (arXiv 2605.07977).
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor

from federation.aggregate import AdapterState, aggregate
from federation.aggregation_plan import ROBUST, Contribution, MergeSettings, Method, Parent
from federation.checks import Limits, check_layout, check_values, norms_of
from federation.errors import FederationError
from federation.factors import digest_of, rank_of
from federation.flower.streams import stream_seed
from spear_core.setting_fields import first_wrong

log = logging.getLogger(__name__)
ServerMethod = Literal["fedavg", "exact", "median", "trimmed_mean", "fedadam", "fedyogi"]
SERVER_METHODS: tuple[ServerMethod, ...] = get_args(ServerMethod)
ADAPTIVE = ("fedadam", "fedyogi")


@dataclass(frozen=True)
class StrategySettings:
    """How a fleet learns together. Raises FederationError for a value out of range.

    Attributes:
        rounds, clients, clients_a_round: how long, out of how many, and how many of them each time.
        learning_rate, final_learning_rate: of the clients, after the warm-up and in the last round.
        warmup_share: of the rounds, over which the rate rises linearly.
        method: `fedavg`, `exact`, `median` and `trimmed_mean` are those of `federation.aggregation_plan`; `fedadam` and `fedyogi` take
            what fedavg moved as a gradient.
        max_weight: a client's weight, which nobody can verify, counts up to here.
        clip: as in `MergeSettings`.
        server_learning_rate, beta1, beta2, tau: of fedadam and fedyogi.
    """

    rounds: Annotated[int, Field(ge=1)] = 20
    clients: Annotated[int, Field(ge=1)] = 8
    clients_a_round: int = 3
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 5e-5
    final_learning_rate: float = 1e-5
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    method: ServerMethod = "fedavg"
    max_weight: Annotated[int, Field(ge=1)] = 100_000
    clip: float | None = None
    server_learning_rate: float = 1e-2
    beta1: float = 0.9
    beta2: float = 0.99
    tau: Annotated[float, Field(gt=0)] = 5e-3

    def __post_init__(self) -> None:
        wrong = first_wrong(self)
        if not wrong and not 1 <= self.clients_a_round <= self.clients:
            wrong = "clients_a_round", "1 to the number of clients"
        if not wrong and not 0 <= self.final_learning_rate <= self.learning_rate:
            wrong = "final_learning_rate", "0 to learning_rate"
        if wrong:
            name, allowed = wrong
            raise FederationError(f"federation.{name} must be {allowed}, not {getattr(self, name)!r}")


@dataclass(frozen=True)
class Contributed:
    """What one client hands back: its adapter, and its weight (the paper's: its number of wins)."""

    client: int
    state: Mapping[str, Tensor]
    weight: int


@dataclass(frozen=True)
class ServerState:
    """All that goes from round to round: the adapter, and the moments of fedadam and fedyogi (empty for the others)."""

    adapter: AdapterState
    first_moment: AdapterState = field(default_factory=dict)
    second_moment: AdapterState = field(default_factory=dict)


def choose_clients(settings: StrategySettings, seed: int, round: int) -> list[int]:
    """The clients of a round, without repetition, in ascending order."""
    rng = random.Random(stream_seed(seed, "clients", round))
    return sorted(rng.sample(range(settings.clients), settings.clients_a_round))


def learning_rate(settings: StrategySettings, round: int) -> float:
    """The clients' rate in a round (counted from 0): linear warm-up, then cosine to the final rate."""
    warmup = round_up(settings.warmup_share * settings.rounds)
    if round < warmup:
        return settings.learning_rate * (round + 1) / warmup
    progress = (round - warmup) / max(1, settings.rounds - 1 - warmup)
    fall = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return settings.final_learning_rate + (settings.learning_rate - settings.final_learning_rate) * fall


def round_up(value: float) -> int:
    """The least whole number that is not below `value`, up to rounding errors."""
    return math.ceil(value - 1e-9)


def fitting(state: ServerState, updates: Sequence[Contributed]) -> list[Contributed]:
    """The updates that fit the current adapter in names, shapes and size, and are finite; the log says why others do not."""
    layout, norms = _layout(state.adapter), norms_of(state.adapter)
    fit = []
    for update in updates:
        try:
            check_layout(_layout(update.state), layout)
            rank_of(update.state)
            check_values(update.state, norms, Limits())
        except FederationError as e:
            log.warning("client %d is left out of this round: %s", update.client, e)
        else:
            fit.append(update)
    return fit


def _layout(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def next_state(state: ServerState, updates: Sequence[Contributed], settings: StrategySettings) -> ServerState:
    """The state after a round. Clients without weight have no voice; without any weight nothing changes."""
    heard = [u for u in updates if u.weight > 0]
    if not heard:
        return state
    adaptive = settings.method in ADAPTIVE
    method: Method = "fedavg" if adaptive else settings.method  # type: ignore[assignment]
    parent = Parent(state.adapter, digest_of(state.adapter) if method in ROBUST else "")
    contributions = [Contribution(f"client {u.client:06d}", u.state, u.weight, parent.digest) for u in heard]
    merged = aggregate(contributions, MergeSettings(method, settings.max_weight, settings.clip), parent).state
    return _adaptive_step(state, merged, settings) if adaptive else ServerState(merged)


def _adaptive_step(state: ServerState, merged: AdapterState, settings: StrategySettings) -> ServerState:
    """With d the way that fedavg went: m = b1 m + (1 - b1) d; x = x + lr m / (sqrt(v) + tau).

    FedAdam: v = b2 v + (1 - b2) d^2. FedYogi: v = v - (1 - b2) d^2 sign(v - d^2). Both begin at m = 0, v = tau^2.
    """
    adapter, first, second = {}, {}, {}
    for name, now in state.adapter.items():
        move = merged[name] - now
        m = state.first_moment.get(name, torch.zeros_like(now))
        v = state.second_moment.get(name, torch.full_like(now, settings.tau**2))
        m = settings.beta1 * m + (1 - settings.beta1) * move
        if settings.method == "fedadam":
            v = settings.beta2 * v + (1 - settings.beta2) * move.square()
        else:
            v = v - (1 - settings.beta2) * move.square() * torch.sign(v - move.square())
        adapter[name] = now + settings.server_learning_rate * m / (v.sqrt() + settings.tau)
        first[name], second[name] = m, v
    return ServerState(adapter, first, second)
