"""Blocks of rows: as many as fit into the budget, at least one, and all rows exactly once."""

from __future__ import annotations

import pytest

from lep.core import embedding_matrix
from lep.core.embedding_matrix import BLOCK_ELEMENTS, iter_row_blocks, rows_per_block


@pytest.mark.parametrize("dim", [1, 3, 4096, BLOCK_ELEMENTS, BLOCK_ELEMENTS + 1])
def test_a_block_is_as_large_as_the_budget_allows(dim: int) -> None:
    rows = rows_per_block(dim)
    assert rows == 1 or rows * dim <= BLOCK_ELEMENTS
    assert (rows + 1) * dim > BLOCK_ELEMENTS


@pytest.mark.parametrize("rows", [0, 1, 9, 10, 11])
def test_blocks_cover_every_row_once(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_matrix, "BLOCK_ELEMENTS", 40)
    blocks = list(iter_row_blocks(rows, dim=4))
    covered = [row for block in blocks for row in range(block.start, block.stop)]
    assert covered == list(range(rows))
