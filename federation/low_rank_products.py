"""Sums of low-rank products BA without forming the (out, in) matrix. Pure tensor functions, in float64 inside.

sum_i c_i B_i A_i is one product of stacks, [c_1 B_1 .. c_k B_k] (out, kr) times [A_1; ..; A_k] (kr, in). With QR of
both, Q_B R_B and Q_A R_A, everything that matters is in the core R_B R_A^T, of at most (kr, kr): its singular values
are the sum's, so the best rank-r approximation (Eckart and Young 1936) and its error come from there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """b (out, r) and a (r, in), float32; squared Frobenius norms of the whole sum and of what b a lacks of it."""

    b: Tensor
    a: Tensor
    square: float
    residual_square: float


class _Factor:
    """A tall matrix as an orthogonal one times a small one; the orthogonal one is applied, never formed.

    A matrix that is wider than tall is small itself, and stays as it is.
    """

    def __init__(self, stack: Tensor) -> None:  # (n, m)
        self.rows, columns = stack.shape
        self.reflectors: tuple[Tensor, Tensor] | None = None
        self.small = stack
        if self.rows > columns:
            packed, tau = torch.geqrf(stack)
            self.reflectors = (packed, tau)
            self.small = packed[:columns].triu()  # (m, m)

    def lift(self, small: Tensor) -> Tensor:
        """Q times a (rows of `small`, r) matrix: (n, r)."""
        if self.reflectors is None:
            return small
        padded = small.new_zeros(self.rows, small.shape[1])
        padded[: small.shape[0]] = small
        return torch.ormqr(*self.reflectors, padded)


def low_rank_sum(bs: Sequence[Tensor], as_: Sequence[Tensor], coefficients: Sequence[float]) -> LowRank:
    """The best rank-r approximation of sum_i c_i B_i A_i, r being the rank of the terms.

    The singular values are shared evenly, so that b and a have the same norm.

    Args:
        bs: (out, r) each.
        as_: (r, in) each.
        coefficients: c_i, of any sign.
    """
    rank = bs[0].shape[1]
    left = _Factor(torch.cat([b.to(torch.float64) * c for b, c in zip(bs, coefficients, strict=True)], dim=1))
    right = _Factor(torch.cat([a.to(torch.float64) for a in as_], dim=0).T.contiguous())  # (in, kr)
    core = left.small @ right.small.T  # at most (kr, kr)
    u, s, vh = torch.linalg.svd(core, full_matrices=False)
    keep = min(rank, s.numel())
    root = s[:keep].sqrt()
    b = bs[0].new_zeros(left.rows, rank, dtype=torch.float32)
    a = bs[0].new_zeros(rank, right.rows, dtype=torch.float32)
    b[:, :keep] = left.lift(u[:, :keep]) * root
    a[:keep] = (right.lift(vh[:keep].T) * root).T
    return LowRank(b, a, float(s.square().sum()), float(s[keep:].square().sum()))


def product_norm(bs: Sequence[Tensor], as_: Sequence[Tensor], coefficients: Sequence[float]) -> float:
    """Frobenius norm of sum_i c_i B_i A_i, from the (kr, kr) Gram matrices: |BA|^2 = <B^T B, A A^T>."""
    b = torch.cat([b.to(torch.float64) * c for b, c in zip(bs, coefficients, strict=True)], dim=1)
    a = torch.cat([a.to(torch.float64) for a in as_], dim=0)
    return math.sqrt(max(0.0, float(((b.T @ b) * (a @ a.T)).sum())))
