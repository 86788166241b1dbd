"""Aggregation against numbers worked out by hand and dense references, and what must hold for any adapters."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from federation.aggregate import Merged, aggregate
from federation.aggregation_plan import (
    METHODS,
    Contribution,
    MergeSettings,
    Method,
    Parent,
    coefficients_of,
    weights_of,
)
from federation.errors import FederationError, MergeImpossible
from federation.factors import pairs_of
from federation.identity import Identity
from federation.low_rank_products import low_rank_sum, product_norm
from federation.robust_statistics import dropped_at_each_end, trimmed_mean
from federation.update import open_update
from tests.federation.circle import adapter, write

A, B = "m.q_proj.lora_A.weight", "m.q_proj.lora_B.weight"
PARENT = "p" * 64
ALL = st.sampled_from(METHODS)


def one(a: Sequence[float], b: Sequence[float]) -> dict[str, Tensor]:
    """An adapter of rank 1 on one layer."""
    return {A: torch.tensor([list(a)]), B: torch.tensor([[x] for x in b])}


def peers(*states: dict[str, Tensor], wins: Sequence[int] | None = None, parent: str = PARENT) -> list[Contribution]:
    counts = wins or [1] * len(states)
    return [Contribution(f"peer{i}", s, w, parent) for i, (s, w) in enumerate(zip(states, counts, strict=True))]


def product(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {b: state[b].double() @ state[a].double() for a, b in pairs_of(state)}


def zero(like: dict[str, Tensor]) -> Parent:
    return Parent({n: torch.zeros_like(t) for n, t in like.items()}, PARENT)


def merge(contributions: list[Contribution], parent: Parent | None = None, **settings_: object) -> Merged:
    return aggregate(contributions, MergeSettings(**settings_), parent)  # type: ignore[arg-type]


# --- fedavg


def test_fedavg_averages_a_and_b_apart_by_wins() -> None:
    merged = merge(peers(one([1, 0], [2, 0]), one([0, 1], [0, 4]), wins=[3, 1]))
    # A = 3/4 [1 0] + 1/4 [0 1]; B = 3/4 [2 0] + 1/4 [0 4]
    assert merged.state[A].tolist() == [[0.75, 0.25]]
    assert merged.state[B].tolist() == [[1.5], [1.0]]
    assert merged.weights == {"peer0": 0.75, "peer1": 0.25} and merged.residual is None


def test_a_huge_win_count_weighs_no_more_than_the_cap() -> None:
    # capped at 5: 5/(5+1+4) = .5, 1/10, 4/10
    assert weights_of([10**18, 1, 4], max_wins=5) == [0.5, 0.1, 0.4]
    states = [one([x], [x]) for x in (1.0, 2.0, 3.0)]
    lied = merge(peers(*states, wins=[10**18, 1, 4]), max_wins=5)
    honest = merge(peers(*states, wins=[5, 1, 4]), max_wins=5)
    assert torch.equal(lied.state[A], honest.state[A])


def test_who_has_no_wins_has_no_voice() -> None:
    for method in METHODS:
        merged = merge(
            peers(one([1], [1]), one([1], [1]), one([9], [9]), wins=[2, 1, 0]), zero(one([1], [1])), method=method
        )
        assert product(merged.state)[B].item() == pytest.approx(1.0), method
        assert merged.weights["peer2"] == 0
    with pytest.raises(MergeImpossible, match="nothing to average"):
        merge(peers(one([1], [1]), wins=[0]))


def test_scaled_differences_undo_the_dilution() -> None:
    # two peers, each moved one entry by 1 from the parent (1, 1): the mean moves each by 1/2, scale 2 by 1
    parent = Parent(one([1, 1], [1]), PARENT)
    both = peers(one([2, 1], [1]), one([1, 2], [1]))
    assert merge(both, parent).state[A].tolist() == [[1.5, 1.5]]
    assert merge(both, parent, scale=2.0).state[A].tolist() == [[2.0, 2.0]]
    # of products: P + 2 * mean(X - P) = [1 1] + [1 0] + [0 1] = [2 2]
    exact = merge(both, parent, method="exact", scale=2.0)
    torch.testing.assert_close(product(exact.state)[B], torch.tensor([[2.0, 2.0]]).double())
    assert exact.residual == pytest.approx(0, abs=1e-7)


def test_clipping_shortens_only_what_is_longer_than_the_median_one() -> None:
    # lengths of the differences from zero: 1, 1, 10; the bound is 2 * 1, so a tenth of ten times two is left
    states = [one([1, 0], [0]), one([0, 1], [0]), one([10, 0], [0])]
    merged = merge(peers(*states), zero(states[0]), clip=2.0)
    assert merged.kept == {"peer0": 1.0, "peer1": 1.0, "peer2": pytest.approx(0.2)}
    # (1 + 0 + 2) / 3, (0 + 1 + 0) / 3
    torch.testing.assert_close(merged.state[A], torch.tensor([[1.0, 1 / 3]]))


def test_of_two_peers_the_one_that_is_a_thousand_times_too_large_is_clipped() -> None:
    states = [one([1], [0]), one([-1000], [0])]
    merged = merge(peers(*states), zero(states[0]), clip=1.0)
    assert merged.state[A].item() == pytest.approx(0.0, abs=1e-6)


def test_who_stood_still_does_not_set_the_bound() -> None:
    states = [one([0], [0]), one([0], [0]), one([4], [0])]
    assert merge(peers(*states), zero(states[0]), clip=1.0).kept["peer2"] == 1.0


def test_coefficients_make_clipping_and_scaling_a_plain_sum() -> None:
    # P + 2 (1/4 * 1 (X - P) + 3/4 * 1/2 (Y - P)) = (1 - 1/2 - 3/4) P + 1/2 X + 3/4 Y
    rest, each = coefficients_of([0.25, 0.75], [1.0, 0.5], 2.0)
    assert (rest, each) == (-0.25, [0.5, 0.75])
    assert coefficients_of([1 / 3] * 3, [1.0] * 3, 1.0)[0] == 0.0


# --- exact


def test_exact_averages_the_products_which_fedavg_does_not() -> None:
    # the same adapter in two gauges: BA = (2)(3) = (-2)(-3) = 6; fedavg's A and B cancel to zero
    both = peers(one([3], [2]), one([-3], [-2]))
    assert product(merge(both).state)[B].item() == 0
    assert product(merge(both, method="exact").state)[B].item() == pytest.approx(6)


def test_exact_reports_the_residual_of_what_the_rank_cannot_hold() -> None:
    # mean of diag(4, 0) and diag(0, 2) = diag(2, 1): rank 1 keeps 2, loses 1; residual 1 / sqrt(5)
    merged = merge(peers(one([2, 0], [2, 0]), one([0, 1], [0, 2])), method="exact")
    torch.testing.assert_close(product(merged.state)[B], torch.tensor([[2.0, 0], [0, 0]]).double(), atol=1e-6, rtol=0)
    assert merged.residual == pytest.approx(5**-0.5, rel=1e-6)
    assert float(merged.state[A].norm()) == pytest.approx(float(merged.state[B].norm()))  # shared evenly


@pytest.mark.parametrize(("count", "out", "in_"), [(3, 40, 30), (9, 40, 30), (20, 12, 50), (20, 50, 12), (20, 9, 9)])
def test_exact_is_the_best_rank_r_approximation_of_the_dense_average(count: int, out: int, in_: int) -> None:
    generator = torch.Generator().manual_seed(count)
    rank = 4
    bs = [torch.randn(out, rank, generator=generator) for _ in range(count)]
    as_ = [torch.randn(rank, in_, generator=generator) for _ in range(count)]
    coefficients = [random.Random(i).uniform(-0.5, 1) for i in range(count)]
    dense = sum(c * (b.double() @ a.double()) for b, a, c in zip(bs, as_, coefficients, strict=True))
    assert isinstance(dense, Tensor)
    u, s, vh = torch.linalg.svd(dense)
    best = u[:, :rank] * s[:rank] @ vh[:rank]
    result = low_rank_sum(bs, as_, coefficients)
    assert result.b.shape == (out, rank) and result.a.shape == (rank, in_)
    assert float((result.b.double() @ result.a.double() - best).norm() / dense.norm()) < 1e-6
    assert result.square == pytest.approx(float(dense.square().sum()), rel=1e-9)
    assert result.residual_square == pytest.approx(float(s[rank:].square().sum()), rel=1e-9)
    assert product_norm(bs, as_, coefficients) == pytest.approx(float(dense.norm()), rel=1e-9)


def test_exact_equals_the_dense_average_when_its_rank_allows() -> None:
    # all B share their columns' space, so the average has rank 2 as well
    generator = torch.Generator().manual_seed(1)
    shared = torch.randn(30, 2, generator=generator)
    states = [
        {A: torch.randn(2, 20, generator=generator), B: shared @ torch.randn(2, 2, generator=generator)}
        for _ in range(5)
    ]
    merged = merge(peers(*states, wins=[1, 2, 3, 4, 5]), method="exact")
    dense = sum(w / 15 * product(s)[B] for w, s in zip([1, 2, 3, 4, 5], states, strict=True))
    assert isinstance(dense, Tensor)
    assert float((product(merged.state)[B] - dense).norm() / dense.norm()) < 1e-5
    assert merged.residual is not None and merged.residual < 1e-6


def test_exact_clips_by_the_length_of_the_product() -> None:
    # products 1, 1, 100 in one entry: the last is clipped to 2: (1 + 1 + 2) / 3
    states = [one([1], [1]), one([1], [1]), one([10], [10])]
    merged = merge(peers(*states), zero(states[0]), method="exact", clip=2.0)
    assert product(merged.state)[B].item() == pytest.approx(4 / 3, rel=1e-6)


# --- robust


def test_the_median_and_the_trimmed_mean_by_hand() -> None:
    stack = torch.tensor([[1.0], [2.0], [3.0], [100.0], [-50.0]])
    assert trimmed_mean(stack, 0.5).item() == 2  # sorted: -50 1 2 3 100
    assert trimmed_mean(stack, 0.2).item() == 2  # (1 + 2 + 3) / 3
    assert trimmed_mean(stack, 0.0).item() == pytest.approx(56 / 5)
    assert trimmed_mean(stack[:4], 0.5).item() == 2.5  # of an even number the middle two: 2, 3
    assert trimmed_mean(stack[:1], 0.4).item() == 1


def test_how_many_are_dropped() -> None:
    assert [dropped_at_each_end(k, 0.3) for k in (1, 2, 3, 4, 5, 7, 10)] == [0, 0, 1, 1, 1, 2, 3]
    assert [dropped_at_each_end(k, 0.5) for k in (1, 2, 3, 4, 5)] == [0, 0, 1, 1, 2]
    assert [dropped_at_each_end(k, 0.0) for k in (1, 3, 10)] == [0, 0, 0]


def test_the_trimmed_mean_of_three_peers_leaves_a_wild_one_out() -> None:
    assert trimmed_mean(torch.tensor([[1.0], [2.0], [1000.0]]), MergeSettings(method="trimmed_mean").trim).item() == 2


def test_a_large_tensor_is_sorted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = torch.randn(5, 7, 11)
    whole = trimmed_mean(stack, 0.5)
    monkeypatch.setattr("federation.robust_statistics.CHUNK_ENTRIES", 60)
    assert torch.equal(trimmed_mean(stack, 0.5), whole)
    assert torch.equal(whole, stack.median(dim=0).values)


@pytest.mark.parametrize("method", ["median", "trimmed_mean"])
def test_three_liars_of_ten_do_not_move_a_robust_merge_beyond_the_honest(method: Method) -> None:
    honest = [adapter(1, size=0.1) for _ in range(7)]
    lies = [{n: -1000 * t for n, t in honest[0].items()} for _ in range(3)]
    merged = merge(peers(*honest, *lies, wins=[1] * 7 + [10**9] * 3), zero(honest[0]), method=method)
    for name, tensor in honest[0].items():
        torch.testing.assert_close(merged.state[name], tensor)


def test_a_robust_merge_needs_a_common_parent() -> None:
    state = one([1], [1])
    for method in ("median", "trimmed_mean"):
        with pytest.raises(MergeImpossible, match="no common parent"):
            merge(peers(state, state), method=method)
        with pytest.raises(MergeImpossible, match="peer0 began from another"):
            merge(peers(state, state, parent="other"), zero(state), method=method)


@pytest.mark.parametrize("said", [{"clip": 1.0}, {"scale": 2.0}])
def test_differences_need_a_parent(said: dict[str, Any]) -> None:
    with pytest.raises(MergeImpossible, match="no common parent is given"):
        merge(peers(one([1], [1])), **said)


# --- what holds for all


@settings(max_examples=30, deadline=None)
@given(method=ALL, seed=st.integers(0, 10**6), wins=st.integers(1, 10**6), with_parent=st.booleans())
def test_aggregating_one_update_gives_it_back(method: Method, seed: int, wins: int, with_parent: bool) -> None:
    state = adapter(seed)
    parent = Parent(adapter(seed + 1), PARENT) if with_parent or method in ("median", "trimmed_mean") else None
    merged = merge(peers(state, wins=[wins]), parent, method=method)
    assert merged.state.keys() == state.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(merged.state[name], tensor, atol=1e-6, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(method=ALL, seed=st.integers(0, 10**6), clip=st.sampled_from([None, 0.9]), data=st.data())
def test_the_order_of_peers_changes_nothing(method: Method, seed: int, clip: float | None, data: st.DataObject) -> None:
    everyone = peers(*(adapter(seed + i) for i in range(4)), wins=[1, 5, 2, 9])
    shuffled = data.draw(st.permutations(everyone))
    parent = Parent(adapter(seed + 9), PARENT)
    first = merge(everyone, parent, method=method, clip=clip, scale=1.5)
    second = merge(list(shuffled), parent, method=method, clip=clip, scale=1.5)
    assert all(torch.equal(first.state[n], second.state[n]) for n in first.state)
    assert first.weights == second.weights and first.residual == second.residual


@settings(max_examples=30, deadline=None)
@given(method=ALL, seed=st.integers(0, 10**6), times=st.integers(2, 20))
def test_weights_scale_out(method: Method, seed: int, times: int) -> None:
    states = [adapter(seed + i) for i in range(3)]
    parent = Parent(adapter(seed + 9), PARENT)
    first = merge(peers(*states, wins=[1, 2, 4]), parent, method=method, max_wins=1000)
    second = merge(peers(*states, wins=[times, 2 * times, 4 * times]), parent, method=method, max_wins=1000)
    for name in first.state:
        torch.testing.assert_close(first.state[name], second.state[name])


@settings(max_examples=20, deadline=None)
@given(method=ALL, seed=st.integers(0, 10**6))
def test_equal_adapters_merge_to_themselves(method: Method, seed: int) -> None:
    # PEFT's linear combination with weights 1/3 would make the product three times too large
    state = adapter(seed)
    merged = merge(peers(state, state, state), zero(state), method=method)
    for name, tensor in product(state).items():
        torch.testing.assert_close(product(merged.state)[name], tensor, atol=1e-6, rtol=1e-5)


def test_mapped_bfloat16_updates_merge_like_tensors_in_memory(tmp_path: Path) -> None:
    states = [adapter(i, dtype=torch.bfloat16) for i in range(3)]
    mapped = []
    for i, state in enumerate(states):
        write(tmp_path / str(i), Identity.new(), state, wins=i + 1)
        mapped.append(Contribution.of(open_update(tmp_path / str(i))))
    for method in ("fedavg", "exact"):
        merged = merge(mapped, method=method)
        assert all(t.dtype == torch.float32 for t in merged.state.values())
        in_memory = [Contribution(c.peer, states[c.wins - 1], c.wins) for c in mapped]
        again = merge(in_memory, method=method)
        assert all(torch.equal(merged.state[n], again.state[n]) for n in merged.state)


def test_what_goes_in_is_never_changed() -> None:
    states = [adapter(i) for i in range(3)]
    parent = adapter(9)
    for method in METHODS:
        merged = merge(peers(*states), Parent(parent, PARENT), method=method, clip=0.5, scale=2.0)
        merged.state.popitem()[1].fill_(7)
    single = merge(peers(states[0]), method="exact")
    next(iter(single.state.values())).fill_(7)
    assert all(torch.equal(s[n], adapter(i)[n]) for i, s in enumerate(states) for n in s)
    assert all(torch.equal(parent[n], adapter(9)[n]) for n in parent)


def test_unlike_adapters_are_not_merged() -> None:
    for contributions, says in (
        ([], "no update to merge"),
        (peers(one([1], [1]), adapter(1)), "differ in the names or shapes"),
        (peers(one([1], [1]), one([1, 2], [1])), "differ in the names or shapes"),
        (peers(one([1], [1])) * 2, "in the merge twice"),
    ):
        with pytest.raises(MergeImpossible, match=says):
            merge(contributions)


@pytest.mark.parametrize(
    "said", [{"method": "mean"}, {"max_wins": 0}, {"clip": 0.0}, {"scale": 0.0}, {"scale": float("nan")}, {"trim": 0.5}]
)
def test_settings_out_of_range_are_refused_by_name(said: dict[str, object]) -> None:
    with pytest.raises(FederationError, match=f"{next(iter(said))} must be"):
        MergeSettings(**said)  # type: ignore[arg-type]
