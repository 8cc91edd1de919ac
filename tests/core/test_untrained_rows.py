"""Rows that training never moved."""

from __future__ import annotations

import pytest
import torch

from lep.core import table_rows as rows
from lep.core.untrained_rows import untrained_ids


@pytest.fixture
def table() -> torch.Tensor:
    """A hundred rows; 7 next to nothing, 8 zero, 20 and 90 the same but for rounding."""
    made = torch.randn(100, 16, generator=torch.Generator().manual_seed(0))
    made[7] *= 0.01
    made[8] = 0
    made[90] = made[20] * 1.0002
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_short_and_equal_rows_are_told(table: torch.Tensor, dtype: torch.dtype) -> None:
    assert untrained_ids(table.to(dtype), [90, 5, 7, 8, 20, 99]) == [7, 8, 20, 90]


def test_a_row_is_compared_with_all_blocks(table: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK", 16 * 30)
    assert untrained_ids(table, [20, 21]) == [20]


def test_nothing_is_asked(table: torch.Tensor) -> None:
    assert untrained_ids(table, []) == [] == untrained_ids(table, [100])
