"""Settings of an aggregation, and the weight of each peer in it. No tensor is read here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field

from federation.errors import FederationError, MergeImpossible, shown
from spear_core.setting_fields import first_wrong

if TYPE_CHECKING:  # the settings alone must not wait for torch
    from torch import Tensor

    from federation.update import Update

Method = Literal["fedavg", "exact", "median", "trimmed_mean"]
METHODS: tuple[Method, ...] = get_args(Method)
ROBUST: tuple[Method, ...] = ("median", "trimmed_mean")


@dataclass(frozen=True)
class MergeSettings:
    """How updates become one adapter.

    Attributes:
        method: `fedavg` (A and B averaged apart, the paper's), `exact` (products BA averaged), `median`,
            `trimmed_mean` (entry by entry, without weights).
        max_wins: a peer's count of wins, which nobody can verify, counts up to here.
        clip: differences from the parent longer than this many times the median peer's are shortened to it;
            None leaves them. It needs a parent.
        scale: factor on the averaged difference from the parent. With k peers that each correct other facts, 1 leaves
            1/k of each correction and k adds them all up. Other values than 1 need a parent.
        trim: share of the peers dropped at each end by `trimmed_mean`, entry by entry; of three or more at least one.

    Raises:
        FederationError: for a value out of range.
    """

    method: Method = "fedavg"
    max_wins: Annotated[int, Field(ge=1)] = 50
    clip: Annotated[float | None, Field(gt=0)] = None
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.3

    def __post_init__(self) -> None:
        if wrong := first_wrong(self):
            name, allowed = wrong
            raise FederationError(f"{name} must be {allowed}, not {getattr(self, name)!r}")


@dataclass(frozen=True)
class Contribution:
    """One adapter that goes into a merge, the own one included.

    Attributes:
        peer: the author's key; it also fixes the order of summation, so that the order of arrival changes nothing.
        tensors: by name, on the CPU; (r, in) for lora_A, (out, r) for lora_B.
        wins: as the author says.
        parent: digest of the adapter it was trained from, or "".
        questions: that it was taught, where the author sent them.
    """

    peer: str
    tensors: Mapping[str, Tensor]
    wins: int
    parent: str = ""
    questions: tuple[str, ...] = ()

    @classmethod
    def of(cls, update: Update) -> Contribution:
        """From an update that passed `check_update`."""
        manifest = update.manifest
        return cls(manifest.peer, update.tensors, manifest.wins, manifest.parent, update.questions)


@dataclass(frozen=True)
class Parent:
    """The adapter that differences are taken from; `digest` is its name in manifests (`factors.digest_of`)."""

    tensors: Mapping[str, Tensor]
    digest: str


def weights_of(wins: Sequence[int], max_wins: int) -> list[float]:
    """Each one's share of the average: its wins, at most `max_wins`, over the sum; a peer without wins has no weight.

    With a cap of c and honest peers of at least one win, a lie moves a share to at most c / (c + the others').

    Raises:
        MergeImpossible: if nobody has a win.
    """
    capped = [min(max(count, 0), max_wins) for count in wins]
    total = sum(capped)
    if total == 0:
        raise MergeImpossible("no update was trained on a win, so there is nothing to average")
    return [count / total for count in capped]


def coefficients_of(weights: Sequence[float], factors: Sequence[float], scale: float) -> tuple[float, list[float]]:
    """The merge P + scale * sum_i w_i c_i (X_i - P) as a plain sum: (what P is multiplied by, what each X_i is).

    Args:
        weights: w_i, adding up to one.
        factors: c_i, what clipping leaves of each difference.
        scale: the factor on the averaged difference.
    """
    each = [scale * w * c for w, c in zip(weights, factors, strict=True)]
    rest = 1.0 - fsum(each)
    return (0.0 if abs(rest) < 1e-12 else rest), each


def check_contributions(contributions: Sequence[Contribution], parent: Parent | None, settings: MergeSettings) -> None:
    """Raises MergeImpossible where tensors differ in name or shape, or a parent is needed and not common."""
    if not contributions:
        raise MergeImpossible("there is no update to merge")
    if len({c.peer for c in contributions}) != len(contributions):
        raise MergeImpossible("one peer is in the merge twice")
    layouts = [{name: c.tensors[name].shape for name in c.tensors} for c in contributions]
    if parent is not None:
        layouts.append({name: parent.tensors[name].shape for name in parent.tensors})
    if any(layout != layouts[0] for layout in layouts):
        raise MergeImpossible("the adapters to merge differ in the names or shapes of their tensors")
    if parent is None:
        for name, used in (
            ("clip", settings.clip is not None),
            ("scale", settings.scale != 1.0),
            (settings.method, settings.method in ROBUST),
        ):
            if used:
                raise MergeImpossible(f"{name} works on differences, and no common parent is given to take them from")
    elif settings.method in ROBUST:
        for contribution in contributions:
            if contribution.parent != parent.digest:
                raise MergeImpossible(
                    f"{settings.method} needs a common parent, and {shown(contribution.peer, 12)} began from another"
                )
