"""Least squares over rows that are streamed in blocks and never held at once.

Solve `argmin ‖X Δ − D‖² + λ‖Δ‖²` for X and D of shape `rows × dim`, in float64. Two accumulators have the same
interface: `NormalEquations` for X of a condition up to `CONDITION_LIMIT`, `BlockedQR` for any X at three times
the cost. See [The fit](docs/mathematics.md#the-fit). Axes: `n` rows of a block, `dim` columns, `k` = min(rows, dim).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

CONDITION_LIMIT = 1e6
"""Above this condition, XᵀX has lost so many digits of X that fewer than four digits of Δ would be right."""

_PANEL_COLUMNS = 512
_LANCZOS_STEPS = 64


class IllConditionedError(ArithmeticError):
    """The condition of X is above `CONDITION_LIMIT`, or X is rank-deficient: use `BlockedQR`."""


@dataclass(frozen=True)
class Gram:
    """G = XᵀX of the first `rows` rows of a problem; problems with the same X share it."""

    matrix: Float[Tensor, "dim dim"]
    """Symmetric, float64."""
    rows: int

    def solve(self, cross: Float[Tensor, "dim dim"], *, ridge: float = 0.0) -> Solution:
        """Return Δ = (G + λI)⁻¹ H.

        Args:
            cross: H = XᵀD.
            ridge: λ ≥ 0, in units of squared row entries summed over rows.

        Returns:
            Δ with this Gram matrix, and the rank and condition of X.

        Raises:
            IllConditionedError: the condition of X is above `CONDITION_LIMIT`, or X is rank-deficient.
        """
        factor, failed = torch.linalg.cholesky_ex(self.matrix)
        condition = float("inf") if failed else _estimate_condition(self.matrix, factor)
        if condition > CONDITION_LIMIT:
            raise IllConditionedError
        if ridge:
            identity = torch.eye(len(self.matrix), dtype=self.matrix.dtype, device=self.matrix.device)
            factor = torch.linalg.cholesky(self.matrix + ridge * identity)
        return Solution(torch.cholesky_solve(cross, factor), rank=len(self.matrix), condition=condition, gram=self)


@dataclass(frozen=True)
class Solution:
    """Δ and the numerical quality of the solve."""

    delta: Float[Tensor, "dim dim"]
    rank: int
    """Numerical rank of X."""
    condition: float
    """Largest over smallest non-zero singular value of X."""
    gram: Gram | None = None
    """The Gram matrix that was solved with; `None` for a QR factorization."""


@dataclass
class NormalEquations:
    """Accumulate G = XᵀX, H = XᵀD and ‖D‖² over blocks of rows."""

    gram_triangle: Float[Tensor, "dim dim"]
    """Upper triangle of G; the lower one is not computed. Stays zero when `known_grams` are given."""
    cross: Float[Tensor, "dim dim"]
    target_squared_norm: Float[Tensor, ""]
    rows: int = 0
    known_grams: tuple[Gram, ...] = ()
    """Gram matrices of the same rows from an earlier solve; when given, G is not computed again."""

    @classmethod
    def empty(
        cls, dim: int, *, device: torch.device | str = "cpu", known_grams: tuple[Gram, ...] = ()
    ) -> NormalEquations:
        """Return the equations of no rows.

        Args:
            dim: number of columns.
            device: where blocks are multiplied.
            known_grams: Known G = XᵀX, by the row count at which `solve` will be called.

        Returns:
            Zero sums.
        """
        zero = torch.zeros(dim, dim, dtype=torch.float64, device=device)
        return cls(zero, cross=zero.clone(), target_squared_norm=zero.new_zeros(()), known_grams=known_grams)

    def add_rows(self, x: Float[Tensor, "n dim"], d: Float[Tensor, "n dim"]) -> None:
        """Add a float64 block: 3·n·dim² multiply-adds, or 2·n·dim² where G is known."""
        if not self.known_grams:
            for start in range(0, x.shape[1], _PANEL_COLUMNS):
                panel = slice(start, start + _PANEL_COLUMNS)
                self.gram_triangle[panel, start:].addmm_(x[:, panel].T, x[:, start:])
        self.cross.addmm_(x.T, d)
        self.target_squared_norm += d.flatten().dot(d.flatten())
        self.rows += len(x)

    def gram(self) -> Gram:
        """Return G of the rows so far.

        Returns:
            The symmetric matrix; a known one where there are `known_grams`.

        Raises:
            ValueError: Gram matrices are known, but none of this number of rows.
        """
        if not self.known_grams:
            return Gram(self.gram_triangle.triu() + self.gram_triangle.triu(1).T, self.rows)
        if not (matches := [gram for gram in self.known_grams if gram.rows == self.rows]):
            known = [gram.rows for gram in self.known_grams]
            raise ValueError(f"the Gram matrices are of {known} rows, not of {self.rows}: they belong to another X")
        return matches[0]

    def solve(self, *, ridge: float = 0.0) -> Solution:
        """Return Δ = (G + λI)⁻¹ H, see `Gram.solve`.

        Args:
            ridge: λ ≥ 0, in units of squared row entries summed over rows.

        Returns:
            Δ with the Gram matrix, and the rank and condition of X.

        Raises:
            IllConditionedError: the condition of X is above `CONDITION_LIMIT`, or X is rank-deficient.
            ValueError: there are no rows, or G or H is not finite.
        """
        _check_finite(self.rows, self.gram_triangle, self.cross)
        return self.gram().solve(self.cross, ridge=ridge)

    def relative_residual(self, delta: Float[Tensor, "dim dim"]) -> float:
        """Return ‖XΔ − D‖ / ‖D‖: 0 is exact (resolved to about 1e-8), 1 is no better than Δ = 0; 0 when D is 0."""
        squared = float((delta * (self.gram().matrix @ delta - 2 * self.cross)).sum() + self.target_squared_norm)
        return _relative_norm(squared, float(self.target_squared_norm))


@dataclass
class BlockedQR:
    """Accumulate R and C = QᵀD of X = QR: the error of Δ grows with the condition of X, not with its square."""

    r_factor: Float[Tensor, "k dim"]
    projected_targets: Float[Tensor, "k dim"]
    orthogonal_squared_norm: Float[Tensor, ""]
    """‖D‖² outside the columns of X, which no Δ can reduce."""
    rows: int = 0

    @classmethod
    def empty(cls, dim: int, *, device: torch.device | str = "cpu") -> BlockedQR:
        """Return the factors of no rows."""
        zero = torch.zeros(0, dim, dtype=torch.float64, device=device)
        return cls(r_factor=zero, projected_targets=zero, orthogonal_squared_norm=zero.new_zeros(()))

    def add_rows(self, x: Float[Tensor, "n dim"], d: Float[Tensor, "n dim"]) -> None:
        """Add a float64 block; blocks of at least dim rows are fastest."""
        reflectors, scales = torch.geqrf(torch.cat([self.r_factor, x]))
        rotated = torch.ormqr(reflectors, scales, torch.cat([self.projected_targets, d]), transpose=True)
        k = min(reflectors.shape)
        self.r_factor, self.projected_targets = reflectors[:k].triu(), rotated[:k].clone()
        self.orthogonal_squared_norm += rotated[k:].square().sum()
        self.rows += len(x)

    def solve(self, *, ridge: float = 0.0) -> Solution:
        """Return Δ; of minimum norm where X is rank-deficient, as SVD-based `lstsq` of NumPy and SciPy.

        Singular values below max(rows, dim)·ε of the largest count as zero, as there.

        Args:
            ridge: λ ≥ 0, in units of squared row entries summed over rows.

        Returns:
            Δ, and the rank and condition of X.

        Raises:
            ValueError: there are no rows, or R or C is not finite.
        """
        _check_finite(self.rows, self.r_factor, self.projected_targets)
        left, singular, right = torch.linalg.svd(self.r_factor, full_matrices=False)
        smallest = singular[0] * max(self.rows, self.r_factor.shape[1]) * torch.finfo(singular.dtype).eps
        rank = int((singular > smallest).sum())
        if rank == 0:
            dim = self.r_factor.shape[1]
            return Solution(self.r_factor.new_zeros(dim, dim), rank=0, condition=float("inf"))
        singular = singular[:rank, None]
        weights = singular / (singular.square() + ridge)
        delta = right[:rank].T @ (weights * (left[:, :rank].T @ self.projected_targets))
        return Solution(delta, rank=rank, condition=float(singular[0] / singular[-1]))

    def relative_residual(self, delta: Float[Tensor, "dim dim"]) -> float:
        """Return ‖XΔ − D‖ / ‖D‖, resolved to float64's ε: no nearly equal numbers are subtracted."""
        missed = (self.r_factor @ delta - self.projected_targets).square().sum() + self.orthogonal_squared_norm
        return _relative_norm(
            float(missed), float(self.projected_targets.square().sum() + self.orthogonal_squared_norm)
        )


def _check_finite(rows: int, *sums: Tensor) -> None:
    if not rows:
        raise ValueError("least squares over no rows")
    if not all(bool(matrix.isfinite().all()) for matrix in sums):
        raise ValueError("the rows hold NaN or infinite values")


def _relative_norm(squared: float, reference: float) -> float:
    return max(squared / reference, 0.0) ** 0.5 if reference else 0.0


def _estimate_condition(gram: Tensor, factor: Tensor) -> float:
    """Return the condition of X from G = XᵀX and its Cholesky factor: only the two extreme eigenvalues are needed."""
    largest = _largest_eigenvalue(lambda v: gram @ v, gram)
    inverse_of_smallest = _largest_eigenvalue(lambda v: torch.cholesky_solve(v[:, None], factor)[:, 0], gram)
    return (largest * inverse_of_smallest) ** 0.5


def _largest_eigenvalue(matvec: Callable[[Tensor], Tensor], like: Tensor) -> float:
    """Return the largest eigenvalue of a symmetric operator by Lanczos steps with full reorthogonalization.

    Approached from below; exact with as many steps as dimensions. Source: Golub & Van Loan, ch. 10.
    """
    start = torch.randn(len(like), dtype=like.dtype, generator=torch.Generator().manual_seed(0)).to(like.device)
    basis = (start / start.norm())[None]
    diagonal, off_diagonal = [], []
    for _ in range(min(_LANCZOS_STEPS, len(like))):
        image = matvec(basis[-1])
        diagonal.append(float(basis[-1] @ image))
        for _ in range(2):
            image = image - basis.T @ (basis @ image)
        off_diagonal.append(float(image.norm()))
        if off_diagonal[-1] <= diagonal[0] * 1e-14:
            break
        basis = torch.cat([basis, image[None] / off_diagonal[-1]])
    off = torch.tensor(off_diagonal[:-1], dtype=like.dtype)
    ritz = torch.tensor(diagonal, dtype=like.dtype).diag() + off.diag(1) + off.diag(-1)
    return float(torch.linalg.eigvalsh(ritz)[-1])
