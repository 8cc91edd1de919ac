"""Least squares over rows that are never held at once.

For X (`rows × dim`) and D (`rows × dim`): `argmin ‖X Δ − D‖² + λ‖Δ‖²`, in float64, by two methods with one face.
`NormalEquations` are the fast ones, for X of a condition up to `CONDITION_LIMIT`; `BlockedQR` takes any X, at three
times the work. Axes: `n` rows of a block, `dim` columns, `k` = min(rows so far, dim).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

CONDITION_LIMIT = 1e6
"""Above it, XᵀX has lost so many digits of X that Δ would be good to fewer than four."""

_PANEL = 512
_STEPS = 64


class IllConditioned(ArithmeticError):
    """The condition of X is above `CONDITION_LIMIT`, or X is rank-deficient: use `BlockedQR`."""


@dataclass(frozen=True)
class Solution:
    """Δ and how it was found."""

    delta: Float[Tensor, "dim dim"]
    rank: int
    """Numerical rank of X."""
    condition: float
    """Largest over smallest non-zero singular value of X."""


@dataclass
class NormalEquations:
    """G = XᵀX, H = XᵀD and ‖D‖² of the rows so far."""

    gram: Float[Tensor, "dim dim"]
    """Its upper triangle: the lower one is not computed."""
    cross: Float[Tensor, "dim dim"]
    squared_norm: Float[Tensor, ""]
    rows: int = 0
    shared: list[Tensor] | None = None
    """G at every solve, in their order. An empty list is filled; a filled one spares computing G of the same rows."""
    solves: int = 0
    replays: bool = field(init=False)

    def __post_init__(self) -> None:
        self.replays = bool(self.shared)

    @classmethod
    def empty(
        cls, dim: int, *, device: torch.device | str = "cpu", shared: list[Tensor] | None = None
    ) -> NormalEquations:
        """The equations of no rows."""
        zero = torch.zeros(dim, dim, dtype=torch.float64, device=device)
        return cls(gram=zero, cross=zero.clone(), squared_norm=zero.new_zeros(()), shared=shared)

    def add(self, x: Float[Tensor, "n dim"], d: Float[Tensor, "n dim"]) -> None:
        """These rows as well; float64. 3·n·dim² multiplications and additions, 2·n·dim² where G is known."""
        if not self.replays:
            for start in range(0, x.shape[1], _PANEL):
                panel = slice(start, start + _PANEL)
                self.gram[panel, start:].addmm_(x[:, panel].T, x[:, start:])
        self.cross.addmm_(x.T, d)
        self.squared_norm += d.flatten().dot(d.flatten())
        self.rows += len(x)

    def solve(self, *, ridge: float = 0.0) -> Solution:
        """Δ = (G + λI)⁻¹ H.

        Args:
            ridge: λ ≥ 0, in units of squared row entries summed over rows.

        Raises:
            IllConditioned: see there.
            ValueError: no rows, or G or H is not finite.

        Source: METHOD §2, the difference form.
        """
        _check(self.rows, self.gram, self.cross)
        gram = self._gram(self.solves)
        self.solves += 1
        factor, failed = torch.linalg.cholesky_ex(gram)
        condition = float("inf") if failed else _condition(gram, factor)
        if condition > CONDITION_LIMIT:
            raise IllConditioned
        if ridge:
            factor = torch.linalg.cholesky(gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device))
        return Solution(torch.cholesky_solve(self.cross, factor), rank=len(gram), condition=condition)

    def residual(self, delta: Float[Tensor, "dim dim"]) -> float:
        """‖XΔ − D‖ / ‖D‖: 1 is no better than Δ = 0, 0 is exact (resolved to about 1e-8); 0 when D is 0."""
        gram = self._gram(self.solves - 1)
        squared = float((delta * (gram @ delta - 2 * self.cross)).sum() + self.squared_norm)
        return _relative(squared, float(self.squared_norm))

    def _gram(self, solve: int) -> Tensor:
        """G whole; at a solve, remembered where it is shared."""
        if self.replays and self.shared:
            return self.shared[solve]
        gram = self.gram.triu() + self.gram.triu(1).T
        if self.shared is not None and len(self.shared) == solve:
            self.shared.append(gram)
        return gram


@dataclass
class BlockedQR:
    """R and C = QᵀD of X = QR: the condition of X, not its square, decides how good Δ is."""

    triangle: Float[Tensor, "k dim"]
    cross: Float[Tensor, "k dim"]
    outside: Float[Tensor, ""]
    """‖D‖² outside the columns of X, which no Δ can reach."""
    rows: int = 0

    @classmethod
    def empty(cls, dim: int, *, device: torch.device | str = "cpu") -> BlockedQR:
        """The factors of no rows."""
        nothing = torch.zeros(0, dim, dtype=torch.float64, device=device)
        return cls(triangle=nothing, cross=nothing, outside=nothing.new_zeros(()))

    def add(self, x: Float[Tensor, "n dim"], d: Float[Tensor, "n dim"]) -> None:
        """These rows as well; float64. Best in blocks of at least dim rows."""
        reflectors, scales = torch.geqrf(torch.cat([self.triangle, x]))
        turned = torch.ormqr(reflectors, scales, torch.cat([self.cross, d]), transpose=True)
        k = min(reflectors.shape)
        self.triangle, self.cross = reflectors[:k].triu(), turned[:k].clone()
        self.outside += turned[k:].square().sum()
        self.rows += len(x)

    def solve(self, *, ridge: float = 0.0) -> Solution:
        """Δ of minimum norm where X is rank-deficient, as NumPy's and SciPy's SVD-based `lstsq` of X and D.

        Singular values below max(rows, dim)·ε of the largest count as zero, as there. Args and errors: as
        `NormalEquations.solve`, which refuses what is solved here.
        """
        _check(self.rows, self.triangle, self.cross)
        left, singular, right = torch.linalg.svd(self.triangle, full_matrices=False)
        least = singular[0] * max(self.rows, self.triangle.shape[1]) * torch.finfo(singular.dtype).eps
        rank = int((singular > least).sum())
        if rank == 0:
            dim = self.triangle.shape[1]
            return Solution(self.triangle.new_zeros(dim, dim), rank=0, condition=float("inf"))
        singular = singular[:rank, None]
        weights = singular / (singular.square() + ridge)
        delta = right[:rank].T @ (weights * (left[:, :rank].T @ self.cross))
        return Solution(delta, rank=rank, condition=float(singular[0] / singular[-1]))

    def residual(self, delta: Float[Tensor, "dim dim"]) -> float:
        """As `NormalEquations.residual`, resolved to float64's ε: no nearly equal numbers are subtracted."""
        missed = (self.triangle @ delta - self.cross).square().sum() + self.outside
        return _relative(float(missed), float(self.cross.square().sum() + self.outside))


def _check(rows: int, *sums: Tensor) -> None:
    if not rows:
        raise ValueError("least squares over no rows")
    if not all(bool(found.isfinite().all()) for found in sums):
        raise ValueError("the rows hold NaN or infinite values")


def _relative(squared: float, reference: float) -> float:
    return max(squared / reference, 0.0) ** 0.5 if reference else 0.0


def _condition(gram: Tensor, factor: Tensor) -> float:
    """Condition of X from G = XᵀX and its Cholesky factor: an eigenvalue at each end, not all of them."""
    largest = _largest(lambda v: gram @ v, gram)
    inverse_of_smallest = _largest(lambda v: torch.cholesky_solve(v[:, None], factor)[:, 0], gram)
    return (largest * inverse_of_smallest) ** 0.5


def _largest(apply: Callable[[Tensor], Tensor], like: Tensor) -> float:
    """Largest eigenvalue of a symmetric operator, by Lanczos steps with full reorthogonalization.

    Approached from below; exact when there are as many steps as dimensions. Source: Golub & Van Loan, ch. 10.
    """
    start = torch.randn(len(like), dtype=like.dtype, generator=torch.Generator().manual_seed(0)).to(like.device)
    basis = (start / start.norm())[None]
    diagonal, beside = [], []
    for _ in range(min(_STEPS, len(like))):
        image = apply(basis[-1])
        diagonal.append(float(basis[-1] @ image))
        for _ in range(2):
            image = image - basis.T @ (basis @ image)
        beside.append(float(image.norm()))
        if beside[-1] <= diagonal[0] * 1e-14:
            break
        basis = torch.cat([basis, image[None] / beside[-1]])
    off = torch.tensor(beside[:-1], dtype=like.dtype)
    ritz = torch.tensor(diagonal, dtype=like.dtype).diag() + off.diag(1) + off.diag(-1)
    return float(torch.linalg.eigvalsh(ritz)[-1])
