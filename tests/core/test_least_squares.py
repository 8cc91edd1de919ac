"""The normal equations give what an SVD-based least squares gives, and say how well."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lep.core.least_squares import NormalEquations, Solution

DIM = 12


def equations(x: Tensor, d: Tensor, *, block: int | None = None) -> NormalEquations:
    found = NormalEquations.empty(x.shape[1])
    for start in range(0, len(x), block or len(x)):
        found = found.add(x[start : start + (block or len(x))], d[start : start + (block or len(x))])
    return found


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


@pytest.mark.parametrize("matrix", MATRICES)
def test_equals_numpy_lstsq_also_where_rank_is_deficient(matrix) -> None:
    x, d = matrix(), random(len(matrix()), DIM, seed=2)
    found: Solution = equations(x, d).solve()
    expected, _, rank, _ = np.linalg.lstsq(x.numpy(), d.numpy(), rcond=None)
    assert found.rank == rank == MATRICES[matrix]
    assert close(found.delta, expected)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("ridge", [1e-3, 1.0, 1e6])
def test_ridge_equals_the_augmented_system(matrix, ridge: float) -> None:
    x, d = matrix(), random(len(matrix()), DIM, seed=2)
    augmented = np.vstack([x.numpy(), ridge**0.5 * np.eye(DIM)])
    expected = np.linalg.lstsq(augmented, np.vstack([d.numpy(), np.zeros((DIM, DIM))]), rcond=None)[0]
    assert close(equations(x, d).solve(ridge=ridge).delta, expected)


@pytest.mark.parametrize("matrix", [duplicate_columns, zero_columns, few_rows, low_rank])
@pytest.mark.parametrize("ridge", [1e-300, 1e-18, 1e-12])
def test_a_tiny_ridge_goes_over_into_the_minimum_norm(matrix, ridge: float) -> None:
    x, d = matrix(), random(len(matrix()), DIM, seed=2)
    found = equations(x, d).solve(ridge=ridge).delta
    assert close(found, np.linalg.lstsq(x.numpy(), d.numpy(), rcond=None)[0])


@pytest.mark.parametrize("block", [1, 7, 59])
def test_blocks_equal_at_once(block: int) -> None:
    x, d = full_rank(), random(60, DIM, seed=2)
    once, blocks = equations(x, d), equations(x, d, block=block)
    assert close(blocks.solve().delta, once.solve().delta.numpy())
    assert blocks.rows == once.rows == 60
    assert blocks.squared_norm == pytest.approx(once.squared_norm, rel=1e-12)


def test_equations_of_disjoint_rows_add_up() -> None:
    x, d = full_rank(), random(60, DIM, seed=2)
    both = equations(x[:20], d[:20]) + equations(x[20:], d[20:])
    assert close(both.solve().delta, equations(x, d).solve().delta.numpy())


@pytest.mark.parametrize("matrix", [full_rank, badly_scaled, few_rows, low_rank])
def test_condition_is_that_of_the_singular_values(matrix) -> None:
    singular = np.linalg.svd(matrix().numpy(), compute_uv=False)[: MATRICES[matrix]]
    found = equations(matrix(), matrix()).solve()
    assert found.condition == pytest.approx(singular[0] / singular[-1], rel=1e-6)


def test_residual_is_relative_to_no_change() -> None:
    x, d = full_rank(), random(60, DIM, seed=2)
    found = equations(x, d)
    delta = found.solve().delta
    assert found.residual(delta) == pytest.approx(float((x @ delta - d).norm() / d.norm()), rel=1e-9)
    assert found.residual(torch.zeros_like(delta)) == 1
    exact = random(DIM, DIM, seed=3)
    assert equations(x, x @ exact).residual(exact) < 1e-7
    assert equations(x, torch.zeros_like(d)).residual(delta) == 0


def test_no_rows_and_rows_that_are_not_finite_are_errors() -> None:
    with pytest.raises(ValueError, match="no rows"):
        NormalEquations.empty(DIM).solve()
    for bad in (float("nan"), float("inf")):
        x, d = full_rank(), random(60, DIM, seed=2)
        x[3, 4] = bad
        with pytest.raises(ValueError, match="NaN or infinite"):
            equations(x, d).solve()
