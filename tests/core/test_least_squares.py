"""Both solvers give what an SVD-based least squares gives, with its rank, condition and residual."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lep.core.least_squares import CONDITION_LIMIT, BlockedQR, Gram, IllConditionedError, NormalEquations, Solution

DIM = 12
Equations = NormalEquations | BlockedQR


def equations(x: Tensor, d: Tensor, *, block: int | None = None, kind=BlockedQR) -> Equations:
    result = kind.empty(x.shape[1])
    for start in range(0, len(x), block or len(x)):
        result.add_rows(x[start : start + (block or len(x))], d[start : start + (block or len(x))])
    return result


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


def close(actual: Tensor, expected: np.ndarray) -> bool:
    return float(np.linalg.norm(actual.numpy() - expected)) <= 1e-9 * max(float(np.linalg.norm(expected)), 1e-300)


CASES = [(matrix, kind) for matrix in MATRICES for kind in kinds(matrix)]


@pytest.mark.parametrize(("matrix", "kind"), CASES)
def test_equals_numpy_lstsq_also_where_rank_is_deficient(matrix, kind) -> None:
    x, d = matrix(), random(len(matrix()), DIM, seed=2)
    solution: Solution = equations(x, d, kind=kind).solve()
    expected, _, rank, _ = np.linalg.lstsq(x.numpy(), d.numpy(), rcond=None)
    assert solution.rank == rank == MATRICES[matrix]
    assert close(solution.delta, expected)


@pytest.mark.parametrize(("matrix", "kind"), CASES)
@pytest.mark.parametrize("ridge", [1e-3, 1.0, 1e6])
def test_ridge_equals_the_augmented_system(matrix, kind, ridge: float) -> None:
    x, d = matrix(), random(len(matrix()), DIM, seed=2)
    augmented = np.vstack([x.numpy(), ridge**0.5 * np.eye(DIM)])
    expected = np.linalg.lstsq(augmented, np.vstack([d.numpy(), np.zeros((DIM, DIM))]), rcond=None)[0]
    assert close(equations(x, d, kind=kind).solve(ridge=ridge).delta, expected)


@pytest.mark.parametrize("matrix", [duplicate_columns, zero_columns, few_rows, low_rank])
@pytest.mark.parametrize("ridge", [1e-300, 1e-18, 1e-12])
def test_a_tiny_ridge_gives_the_minimum_norm(matrix, ridge: float) -> None:
    x, d = matrix(), random(len(matrix()), DIM, seed=2)
    delta = equations(x, d).solve(ridge=ridge).delta
    assert close(delta, np.linalg.lstsq(x.numpy(), d.numpy(), rcond=None)[0])


@pytest.mark.parametrize("matrix", [matrix for matrix, rank in MATRICES.items() if rank < DIM])
@pytest.mark.parametrize("ridge", [0.0, 1.0])
def test_the_normal_equations_refuse_what_they_would_get_wrong(matrix, ridge) -> None:
    with pytest.raises(IllConditionedError):
        equations(matrix(), matrix(), kind=NormalEquations).solve(ridge=ridge)


@pytest.mark.parametrize("condition", [0.5 * CONDITION_LIMIT, 2 * CONDITION_LIMIT, 1e10])
def test_the_condition_decides_which_solver_is_used(condition) -> None:
    left, _ = torch.linalg.qr(random(60, DIM))
    x = left * torch.logspace(0, -float(np.log10(condition)), DIM, dtype=torch.float64)
    d = x @ random(DIM, DIM, seed=1)
    if condition > CONDITION_LIMIT:
        with pytest.raises(IllConditionedError):
            equations(x, d, kind=NormalEquations).solve()
    else:
        assert equations(x, d, kind=NormalEquations).solve().condition == pytest.approx(condition, rel=1e-3)
    solution = equations(x, d, block=17).solve()
    assert solution.condition == pytest.approx(condition, rel=1e-4)
    assert float((solution.delta - random(DIM, DIM, seed=1)).norm()) < 1e-14 * condition * DIM


@pytest.mark.parametrize("kind", [NormalEquations, BlockedQR])
@pytest.mark.parametrize("block", [1, 7, 59])
def test_blocks_equal_at_once(block: int, kind) -> None:
    x, d = full_rank(), random(60, DIM, seed=2)
    once, blocks = equations(x, d, kind=kind), equations(x, d, block=block, kind=kind)
    assert close(blocks.solve().delta, once.solve().delta.numpy())
    assert blocks.rows == once.rows == 60
    delta = random(DIM, DIM, seed=5)
    assert blocks.relative_residual(delta) == pytest.approx(once.relative_residual(delta), rel=1e-12)


def test_a_wide_gram_matrix_is_computed_in_panels() -> None:
    x, d = random(1300, 1100), random(1300, 1100, seed=2)
    normal = equations(x, d, block=400, kind=NormalEquations)
    assert torch.allclose(normal.gram_triangle.triu(), (x.T @ x).triu(), rtol=1e-12, atol=1e-9)
    singular = np.linalg.svd(x.numpy(), compute_uv=False)
    assert normal.solve().condition == pytest.approx(singular[0] / singular[-1], rel=1e-2)


def test_a_known_gram_matrix_is_not_computed_again_and_changes_nothing() -> None:
    x, d, other = full_rank(), random(60, DIM, seed=2), random(60, DIM, seed=3)

    def solve_twice(target: Tensor, *known_grams: Gram) -> tuple[Solution, Solution, float]:
        normal = NormalEquations.empty(DIM, known_grams=known_grams)
        normal.add_rows(x[:40], target[:40])
        first = normal.solve()
        normal.add_rows(x[40:], target[40:])
        second = normal.solve()
        return first, second, normal.relative_residual(second.delta)

    grams = [solution.gram for solution in solve_twice(other)[:2]]
    assert [gram.rows for gram in grams] == [40, 60] and torch.allclose(grams[1].matrix, x.T @ x)
    first, second, residual = solve_twice(d, *reversed(grams))
    for ours, alone in zip((first, second), solve_twice(d)[:2], strict=True):
        assert torch.equal(ours.delta, alone.delta) and ours.condition == alone.condition
    assert close(first.delta, equations(x[:40], d[:40]).solve().delta.numpy())
    assert close(second.delta, equations(x, d).solve().delta.numpy())
    assert residual == pytest.approx(equations(x, d).relative_residual(second.delta), rel=1e-9)
    with pytest.raises(ValueError, match=r"of \[40\] rows, not of 60: they belong to another X"):
        solve_twice(d, grams[0])


@pytest.mark.parametrize(("matrix", "kind"), [case for case in CASES if case[0] is not all_zero])
def test_condition_is_that_of_the_singular_values(matrix, kind) -> None:
    singular = np.linalg.svd(matrix().numpy(), compute_uv=False)[: MATRICES[matrix]]
    solution = equations(matrix(), matrix(), kind=kind).solve()
    assert solution.condition == pytest.approx(singular[0] / singular[-1], rel=1e-6)


@pytest.mark.parametrize(("kind", "exact"), [(NormalEquations, 1e-7), (BlockedQR, 1e-13)])
def test_residual_is_relative_to_no_change(kind, exact) -> None:
    x, d = full_rank(), random(60, DIM, seed=2)
    accumulated = equations(x, d, kind=kind)
    delta = accumulated.solve().delta
    assert accumulated.relative_residual(delta) == pytest.approx(float((x @ delta - d).norm() / d.norm()), rel=1e-9)
    assert accumulated.relative_residual(torch.zeros_like(delta)) == pytest.approx(1, rel=1e-12)
    change = random(DIM, DIM, seed=3)
    assert equations(x, x @ change, kind=kind).relative_residual(change) < exact
    assert equations(x, torch.zeros_like(d), kind=kind).relative_residual(delta) == 0


@pytest.mark.parametrize("kind", [NormalEquations, BlockedQR])
def test_no_rows_and_rows_that_are_not_finite_are_errors(kind) -> None:
    with pytest.raises(ValueError, match="no rows"):
        kind.empty(DIM).solve()
    for bad in (float("nan"), float("inf")):
        x, d = full_rank(), random(60, DIM, seed=2)
        x[3, 4] = bad
        with pytest.raises(ValueError, match="NaN or infinite"):
            equations(x, d, kind=kind).solve()
