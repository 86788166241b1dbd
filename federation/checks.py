"""The checks that an update must pass before it may be merged. The first failure is reported in one sentence.

Cheap checks come first, so that a stranger's file costs little: form, author, signature, freshness and fit are settled
from the header; only then are the tensors read, one at a time. A self-reported win count is not checked here: it is
capped where it is used (`plan.weights_of`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from federation.errors import UpdateRefused, UpdateReplayed, shown
from federation.factors import rank_of, split_name, targets_of
from federation.identity import PublicKey
from federation.manifest import LoraShape, Manifest
from federation.safetensors_header import MAX_HEADER_BYTES
from federation.update import MAX_UPDATE_BYTES, Update, open_update

DAY_SECONDS = 86_400
SAME_LAYERS = "all must adapt the same layers (the setting lora_layers)"


@dataclass(frozen=True)
class Limits:
    """Limits of what is accepted from a peer.

    Attributes:
        max_update_bytes, max_header_bytes: of the file.
        clock_skew_seconds: how far two clocks may be apart: ten minutes, and half as much again for the way.
        max_age_seconds: an update older than this may be an old recording; its author can sign it again.
        max_norm_ratio: how many times larger than the reference all A's, or all B's, may be; B grows about tenfold
            from a first correction to a long history, and such a peer is welcome.
        max_rms: largest root mean square of all entries of A, or of B, whatever the reference.
    """

    max_update_bytes: int = MAX_UPDATE_BYTES
    max_header_bytes: int = MAX_HEADER_BYTES
    clock_skew_seconds: int = 900
    max_age_seconds: int = 30 * DAY_SECONDS
    max_norm_ratio: float = 50.0
    max_rms: float = 1.0


@dataclass(frozen=True)
class Norms:
    """Frobenius norms over all A's and over all B's of an adapter.

    Apart, because A begins large and B at zero: in a common norm a B a hundred times too large would hide behind A.
    """

    a: float
    b: float


@dataclass(frozen=True)
class Expected:
    """What an update has to fit: this instance's own adapter.

    Attributes:
        layout: (rows, columns) of every tensor by name.
        norms: of the own adapter, or the larger of several that are trusted; a norm of zero sets no bound.
    """

    base: str
    lora: LoraShape
    layout: Mapping[str, tuple[int, ...]]
    norms: Norms

    @classmethod
    def of(cls, state: Mapping[str, Tensor], base: str, alpha: int) -> Expected:
        """From the own adapter. Raises MergeImpossible if that is not one plain LoRA adapter."""
        shape = LoraShape(rank_of(state), alpha, targets_of(state))
        return cls(base, shape, {name: tuple(t.shape) for name, t in state.items()}, norms_of(state))


@dataclass(frozen=True)
class Seen:
    """The newest update taken from a peer; the caller keeps one for each peer, and forgets it with the peer."""

    round: int
    created_at_utc: int


@dataclass(frozen=True)
class Checked:
    """An update that may be merged. Record `seen` in the same transaction that records the merge or its refusal."""

    update: Update
    norms: Norms
    seen: Seen


def check_update(
    path: Path, author: PublicKey, expected: Expected, seen: Seen | None, now: float, limits: Limits | None = None
) -> Checked:
    """Read and check one update.

    Args:
        path: the file of the update.
        author: the pinned key of the peer that it is said to come from.
        expected: the base model, shapes and sizes that it must fit.
        seen: what was last taken from this peer, or None.
        now: seconds since 1970 by this machine's clock.
        limits: of size, age and norms; None for the usual ones.

    Raises:
        UpdateReplayed: if this very update was taken before.
        UpdateRefused: for anything else that is wrong, such as a newer one taken before; the reason is one sentence.
    """
    limits = limits or Limits()
    update = open_update(path, limits.max_update_bytes, limits.max_header_bytes)
    check_author(update, author)
    fresh = check_freshness(update.manifest, seen, now, limits)
    check_fit(update, expected)
    if not update.content_matches():
        raise UpdateRefused("the update's tensors are not those that its author signed")
    return Checked(update, check_values(update.tensors, expected.norms, limits), fresh)


def check_author(update: Update, author: PublicKey) -> None:
    """Raises UpdateRefused unless the pinned key, and no other, signed the manifest."""
    if update.manifest.key != author:
        raise UpdateRefused(
            f"the update names the author {update.manifest.key.fingerprint}, not this peer, {author.fingerprint}"
        )
    if not update.signed_by_author():
        raise UpdateRefused("the update's signature does not hold: it was altered, or its author is someone else")


def check_freshness(manifest: Manifest, seen: Seen | None, now: float, limits: Limits) -> Seen:
    """The update's round and time, once they are newer than what was seen.

    A later round may carry a slightly earlier time (the author's clock was corrected), the same round only a later
    one (signed again). Times of different machines are compared only with the tolerance of `limits`.

    Raises:
        UpdateReplayed, UpdateRefused: as `check_update`.
    """
    created = manifest.created_at_utc
    if created > now + limits.clock_skew_seconds:
        raise UpdateRefused(f"the update comes from the future, by {_duration(created - now)}; compare the clocks")
    if now - created > limits.max_age_seconds + limits.clock_skew_seconds:
        raise UpdateRefused(f"the update is {_duration(now - created)} old; its author must sign it again")
    if seen is not None:
        if (manifest.round, created) == (seen.round, seen.created_at_utc):
            raise UpdateReplayed(f"the update of round {manifest.round} has been taken before")
        earliest = seen.created_at_utc - (limits.clock_skew_seconds if manifest.round > seen.round else 0)
        if manifest.round < seen.round or created < earliest:
            raise UpdateRefused(
                f"the update of round {manifest.round} is older than the one of round {seen.round} that has been taken"
            )
    return Seen(manifest.round, created)


def _duration(seconds: float) -> str:
    return f"{seconds / DAY_SECONDS:.0f} days" if seconds > 2 * DAY_SECONDS else f"{seconds / 60:.0f} minutes"


def check_fit(update: Update, expected: Expected) -> None:
    """Base model, LoRA shape, names and shapes; no tensor is read. Raises UpdateRefused."""
    manifest, entries = update.manifest, update.tensors.entries
    if manifest.base != expected.base:
        raise UpdateRefused(f"the update is for another base model ({manifest.base}, not {expected.base})")
    theirs, ours = manifest.lora, expected.lora
    if (theirs.rank, theirs.alpha) != (ours.rank, ours.alpha):
        raise UpdateRefused(
            f"the update has LoRA rank {theirs.rank} and alpha {theirs.alpha}, not {ours.rank} and {ours.alpha}"
        )
    check_layout({name: entry.shape for name, entry in entries.items()}, expected.layout)
    if theirs.targets != ours.targets:
        raise UpdateRefused("the update's manifest names other layers than its tensors are for")


def check_layout(theirs: Mapping[str, tuple[int, ...]], ours: Mapping[str, tuple[int, ...]]) -> None:
    """Names and shapes of all tensors. Raises UpdateRefused."""
    if missing := sorted(ours.keys() - theirs.keys()):
        raise UpdateRefused(f"the update lacks {len(missing)} tensors, such as {shown(missing[0])}; {SAME_LAYERS}")
    if extra := sorted(theirs.keys() - ours.keys()):
        raise UpdateRefused(f"the update has {len(extra)} tensors too many, such as {shown(extra[0])}; {SAME_LAYERS}")
    for name, shape in ours.items():
        if theirs[name] != shape:
            raise UpdateRefused(f"tensor {shown(name)} has shape {theirs[name]}, not {shape}")


def check_values(tensors: Mapping[str, Tensor], reference: Norms, limits: Limits) -> Norms:
    """The update's norms, once every entry is finite and both norms are within bounds.

    Raises:
        UpdateRefused: with the tensor, or the norm, that is wrong.
    """
    squares, sizes = _squares(tensors)
    for factor, own in (("A", reference.a), ("B", reference.b)):
        norm = math.sqrt(squares[factor])
        if norm > limits.max_rms * math.sqrt(sizes[factor]):
            raise UpdateRefused(f"the update's {factor} matrices are too large: their norm is {norm:.3g}")
        if own > 0 and norm > limits.max_norm_ratio * own:
            raise UpdateRefused(
                f"the update's {factor} matrices are {norm / own:.0f} times as large as this instance's own; "
                f"{limits.max_norm_ratio:g} times are taken"
            )
    return Norms(math.sqrt(squares["A"]), math.sqrt(squares["B"]))


def norms_of(tensors: Mapping[str, Tensor]) -> Norms:
    """Norms of an adapter, read tensor by tensor. Raises UpdateRefused for entries that are not finite."""
    squares, _ = _squares(tensors)
    return Norms(math.sqrt(squares["A"]), math.sqrt(squares["B"]))


def _squares(tensors: Mapping[str, Tensor]) -> tuple[dict[str, float], dict[str, int]]:
    """Sums of squares and numbers of entries of all A's and all B's."""
    squares, sizes = {"A": 0.0, "B": 0.0}, {"A": 0, "B": 0}
    for name in tensors:
        tensor = tensors[name]
        # in float64 no sum of squares of float32 numbers overflows: it is finite exactly when all entries are
        square = float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2
        if not math.isfinite(square):
            raise UpdateRefused(f"tensor {shown(name)} holds values that are not finite")
        factor = split_name(name)[1]
        squares[factor] += square
        sizes[factor] += tensor.numel()
    return squares, sizes
