"""Least squares over rows that are never held at once: accumulate the normal equations, then solve.

For X (`rows × dim`) and D (`rows × dim`) the answer to `argmin ‖X Δ − D‖² + λ‖Δ‖²` depends on the rows only
through G = XᵀX and H = XᵀD. Everything is float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Solution:
    """Δ and how it was found."""

    delta: Float[Tensor, "dim dim"]
    rank: int
    """Numerical rank of X, as far as its Gram matrix tells: singular values below about 4e-7 of the largest are 0."""
    condition: float
    """Largest over smallest non-zero singular value of X."""


@dataclass(frozen=True)
class NormalEquations:
    """G = XᵀX, H = XᵀD and ‖D‖² of some rows. Equations of disjoint rows add up."""

    gram: Float[Tensor, "dim dim"]
    cross: Float[Tensor, "dim dim"]
    squared_norm: float
    rows: int

    @classmethod
    def empty(cls, dim: int) -> NormalEquations:
        """The equations of no rows."""
        zero = torch.zeros(dim, dim, dtype=torch.float64)
        return cls(gram=zero, cross=zero.clone(), squared_norm=0.0, rows=0)

    def add(self, x: Float[Tensor, "n dim"], d: Float[Tensor, "n dim"]) -> NormalEquations:
        """These rows as well. G and H are updated in place: keep the result, forget the old value.

        Args:
            x, d: float64 rows.
        """
        self.gram.addmm_(x.T, x)
        self.cross.addmm_(x.T, d)
        squared_norm = self.squared_norm + float(d.square().sum())
        return NormalEquations(self.gram, self.cross, squared_norm, self.rows + len(x))

    def __add__(self, other: NormalEquations) -> NormalEquations:
        return NormalEquations(
            self.gram + other.gram,
            self.cross + other.cross,
            self.squared_norm + other.squared_norm,
            self.rows + other.rows,
        )

    def solve(self, *, ridge: float = 0.0) -> Solution:
        """Δ = (G + λI)⁻¹ H; of minimum norm where G is rank-deficient (as `numpy.linalg.lstsq` of X and D).

        Args:
            ridge: λ ≥ 0, in units of squared row entries summed over rows.

        Raises:
            ValueError: no rows, or G or H is not finite.

        Source: METHOD §2, the difference form.
        """
        if not self.rows:
            raise ValueError("least squares over no rows")
        if not (self.gram.isfinite().all() and self.cross.isfinite().all()):
            raise ValueError("the rows hold NaN or infinite values")
        values, vectors = torch.linalg.eigh(self.gram)
        keep = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
        rank = int(keep.sum())
        if rank == 0:
            return Solution(delta=torch.zeros_like(self.gram), rank=0, condition=float("inf"))
        condition = float((values[-1] / values[keep][0]).sqrt())
        if rank == len(values):
            ridged = self.gram + ridge * torch.eye(len(values), dtype=torch.float64)
            delta = torch.cholesky_solve(self.cross, torch.linalg.cholesky(ridged))
        else:
            basis = vectors[:, keep]
            delta = basis @ ((basis.T @ self.cross) / (values[keep, None] + ridge))
        return Solution(delta=delta, rank=rank, condition=condition)

    def residual(self, delta: Float[Tensor, "dim dim"]) -> float:
        """‖XΔ − D‖ / ‖D‖: 1 is no better than Δ = 0, 0 is exact (resolved to about 1e-8); 0 when D is 0."""
        if self.squared_norm == 0:
            return 0.0
        squared = float((delta * (self.gram @ delta - 2 * self.cross)).sum()) + self.squared_norm
        return max(squared / self.squared_norm, 0.0) ** 0.5
