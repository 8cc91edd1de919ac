"""The normal equations give what an SVD-based least squares gives, and say how well."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lep.core.least_squares import CONDITION_LIMIT, BlockedQR, IllConditioned, NormalEquations, Solution

DIM = 12
Equations = NormalEquations | BlockedQR


def equations(x: Tensor, d: Tensor, *, block: int | None = None, kind=BlockedQR) -> Equations:
    found = kind.empty(x.shape[1])
    for start in range(0, len(x), block or len(x)):
        found.add(x[start : start + (block or len(x))], d[start : start + (block or len(x))])
    return found


def kinds(matrix) -> list[type[Equations]]:
    """Both methods where both apply: the normal equations refuse what is rank-deficient."""
    return [NormalEquations, BlockedQR] if MATRICES[matrix] == DIM else [BlockedQR]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def full_rank() -> Tensor:
    return random(60, DIM)


def badly_scaled() -> Tensor:
    return random(60, DIM) * torch.logspace(0, -3, DIM, dtype=torch.float64)


def duplicate_columns() -> Tensor:
    x = random(60, DIM)
    x[:, 3], x[:, 7] = x[:, 2], x[:, 2]
    return x


def zero_columns() -> Tensor:
    x = random(60, DIM)
    x[:, [0, 5]] = 0
    return x


def few_rows() -> Tensor:
    return random(7, DIM)


def low_rank() -> Tensor:
    return random(60, 4) @ random(4, DIM, seed=1)


def all_zero() -> Tensor:
    return torch.zeros(20, DIM, dtype=torch.float64)


MATRICES = {
    full_rank: 12,
    badly_scaled: 12,
    duplicate_columns: 10,
    zero_columns: 10,
    few_rows: 7,
    low_rank: 4,
    all_zero: 0,
}


def close(found: Tensor, expected: np.ndarray) -> bool:
    return float(np.linalg.norm(found.numpy() - expected)) <= 1e-9 * max(float(np.linalg.norm(expected)), 1e-300)


CASES = [(matrix, kind) for matrix in MATRICES for kind in kinds(matrix)]


@pytest.mark.parametrize(("matrix", "kind"), CASES)
def test_equals_numpy_lstsq_also_where_rank_is_deficient(matrix, kind) -> None:
    x, d = matrix(), random(len(matrix()), DIM, seed=2)
    found: Solution = equations(x, d, kind=kind).solve()
    expected, _, rank, _ = np.linalg.lstsq(x.numpy(), d.numpy(), rcond=None)
    assert found.rank == rank == MATRICES[matrix]
    assert close(found.delta, expected)


@pytest.mark.parametrize(("matrix", "kind"), CASES)
@pytest.mark.parametrize("ridge", [1e-3, 1.0, 1e6])
def test_ridge_equals_the_augmented_system(matrix, kind, ridge: float) -> None:
    x, d = matrix(), random(len(matrix()), DIM, seed=2)
    augmented = np.vstack([x.numpy(), ridge**0.5 * np.eye(DIM)])
    expected = np.linalg.lstsq(augmented, np.vstack([d.numpy(), np.zeros((DIM, DIM))]), rcond=None)[0]
    assert close(equations(x, d, kind=kind).solve(ridge=ridge).delta, expected)


@pytest.mark.parametrize("matrix", [duplicate_columns, zero_columns, few_rows, low_rank])
@pytest.mark.parametrize("ridge", [1e-300, 1e-18, 1e-12])
def test_a_tiny_ridge_goes_over_into_the_minimum_norm(matrix, ridge: float) -> None:
    x, d = matrix(), random(len(matrix()), DIM, seed=2)
    found = equations(x, d).solve(ridge=ridge).delta
    assert close(found, np.linalg.lstsq(x.numpy(), d.numpy(), rcond=None)[0])


@pytest.mark.parametrize("matrix", [matrix for matrix, rank in MATRICES.items() if rank < DIM])
@pytest.mark.parametrize("ridge", [0.0, 1.0])
def test_the_normal_equations_refuse_what_they_would_get_wrong(matrix, ridge) -> None:
    with pytest.raises(IllConditioned):
        equations(matrix(), matrix(), kind=NormalEquations).solve(ridge=ridge)


@pytest.mark.parametrize("condition", [0.5 * CONDITION_LIMIT, 2 * CONDITION_LIMIT, 1e10])
def test_the_condition_decides_who_solves(condition) -> None:
    left, _ = torch.linalg.qr(random(60, DIM))
    x = left * torch.logspace(0, -float(np.log10(condition)), DIM, dtype=torch.float64)
    d = x @ random(DIM, DIM, seed=1)
    if condition > CONDITION_LIMIT:
        with pytest.raises(IllConditioned):
            equations(x, d, kind=NormalEquations).solve()
    else:
        assert equations(x, d, kind=NormalEquations).solve().condition == pytest.approx(condition, rel=1e-3)
    found = equations(x, d, block=17).solve()
    assert found.condition == pytest.approx(condition, rel=1e-4)
    assert float((found.delta - random(DIM, DIM, seed=1)).norm()) < 1e-14 * condition * DIM


@pytest.mark.parametrize("kind", [NormalEquations, BlockedQR])
@pytest.mark.parametrize("block", [1, 7, 59])
def test_blocks_equal_at_once(block: int, kind) -> None:
    x, d = full_rank(), random(60, DIM, seed=2)
    once, blocks = equations(x, d, kind=kind), equations(x, d, block=block, kind=kind)
    assert close(blocks.solve().delta, once.solve().delta.numpy())
    assert blocks.rows == once.rows == 60
    delta = random(DIM, DIM, seed=5)
    assert blocks.residual(delta) == pytest.approx(once.residual(delta), rel=1e-12)


def test_a_wide_gram_matrix_is_computed_in_panels() -> None:
    x, d = random(1300, 1100), random(1300, 1100, seed=2)
    found = equations(x, d, block=400, kind=NormalEquations)
    assert torch.allclose(found.gram.triu(), (x.T @ x).triu(), rtol=1e-12, atol=1e-9)
    singular = np.linalg.svd(x.numpy(), compute_uv=False)
    assert found.solve().condition == pytest.approx(singular[0] / singular[-1], rel=1e-2)


def test_a_known_gram_matrix_is_not_computed_again_and_changes_nothing() -> None:
    x, d, other = full_rank(), random(60, DIM, seed=2), random(60, DIM, seed=3)
    grams: list[Tensor] = []

    def both_solutions(target: Tensor) -> tuple[Tensor, Tensor, float]:
        found = NormalEquations.empty(DIM, shared=grams)
        found.add(x[:40], target[:40])
        part = found.solve().delta
        found.add(x[40:], target[40:])
        whole = found.solve().delta
        return part, whole, found.residual(whole)

    both_solutions(other)
    assert len(grams) == 2 and torch.allclose(grams[1], x.T @ x)
    part, whole, residual = both_solutions(d)
    assert close(part, equations(x[:40], d[:40]).solve().delta.numpy())
    assert close(whole, equations(x, d).solve().delta.numpy())
    assert residual == pytest.approx(equations(x, d).residual(whole), rel=1e-9)


@pytest.mark.parametrize(("matrix", "kind"), [case for case in CASES if case[0] is not all_zero])
def test_condition_is_that_of_the_singular_values(matrix, kind) -> None:
    singular = np.linalg.svd(matrix().numpy(), compute_uv=False)[: MATRICES[matrix]]
    found = equations(matrix(), matrix(), kind=kind).solve()
    assert found.condition == pytest.approx(singular[0] / singular[-1], rel=1e-6)


@pytest.mark.parametrize(("kind", "exact"), [(NormalEquations, 1e-7), (BlockedQR, 1e-13)])
def test_residual_is_relative_to_no_change(kind, exact) -> None:
    x, d = full_rank(), random(60, DIM, seed=2)
    found = equations(x, d, kind=kind)
    delta = found.solve().delta
    assert found.residual(delta) == pytest.approx(float((x @ delta - d).norm() / d.norm()), rel=1e-9)
    assert found.residual(torch.zeros_like(delta)) == pytest.approx(1, rel=1e-12)
    change = random(DIM, DIM, seed=3)
    assert equations(x, x @ change, kind=kind).residual(change) < exact
    assert equations(x, torch.zeros_like(d), kind=kind).residual(delta) == 0


@pytest.mark.parametrize("kind", [NormalEquations, BlockedQR])
def test_no_rows_and_rows_that_are_not_finite_are_errors(kind) -> None:
    with pytest.raises(ValueError, match="no rows"):
        kind.empty(DIM).solve()
    for bad in (float("nan"), float("inf")):
        x, d = full_rank(), random(60, DIM, seed=2)
        x[3, 4] = bad
        with pytest.raises(ValueError, match="NaN or infinite"):
            equations(x, d, kind=kind).solve()
