"""Rows that training never updated."""

from __future__ import annotations

import pytest
import torch

from lep.core import embedding_matrix
from lep.core.untrained_rows import MIN_UNUSED_ROWS, find_untrained_ids, is_near_unused, is_short


@pytest.fixture
def matrix() -> torch.Tensor:
    """A hundred rows; 7 next to nothing, 8 zero, 20 and 90 the same but for rounding."""
    matrix = torch.randn(100, 16, generator=torch.Generator().manual_seed(0))
    matrix[7] *= 0.01
    matrix[8] = 0
    matrix[90] = matrix[20] * 1.0002
    return matrix


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_short_and_equal_rows_are_untrained(matrix: torch.Tensor, dtype: torch.dtype) -> None:
    assert find_untrained_ids(matrix.to(dtype), [90, 5, 7, 8, 20, 99]) == [7, 8, 20, 90]


def test_a_row_is_compared_with_all_blocks(matrix: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_matrix, "BLOCK_ELEMENTS", 16 * 30)
    assert find_untrained_ids(matrix, [20, 21]) == [20]


def test_no_id_or_an_id_beyond_the_matrix_is_no_untrained_row(matrix: torch.Tensor) -> None:
    assert find_untrained_ids(matrix, []) == [] == find_untrained_ids(matrix, [100])


def test_a_row_of_exactly_a_tenth_of_the_median_is_not_short() -> None:
    assert is_short(torch.tensor([0.99, 1.0, 1.01, 0.0]), median_norm=10.0).tolist() == [True, False, False, True]


@pytest.mark.parametrize("unused_rows", [MIN_UNUSED_ROWS, MIN_UNUSED_ROWS - 1])
def test_rows_near_the_mean_of_the_unused_ones_are_found_where_there_are_enough_of_these(unused_rows: int) -> None:
    distances = torch.cat([torch.ones(unused_rows), torch.tensor([1.0, 1.01])])
    unused = torch.arange(len(distances)) < unused_rows
    near = is_near_unused(distances, used=~unused, unused=unused)
    assert near is None if unused_rows < MIN_UNUSED_ROWS else near.nonzero().flatten().tolist() == [unused_rows]
    assert is_near_unused(distances, used=~unused & unused, unused=unused) is None
