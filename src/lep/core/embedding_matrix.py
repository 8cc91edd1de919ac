"""Embedding matrices as interfaces: rows that are read and written in blocks, wherever they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

BLOCK_ELEMENTS = 1 << 24
"""Matrix entries handled at once: bounds the memory of everything that iterates over rows."""


@runtime_checkable
class EmbeddingMatrix(Protocol):
    """An embedding matrix, `vocab × dim`: a tensor, or a file whose rows are read on access."""

    @property
    def shape(self) -> Sequence[int]:
        """Return (rows, dim)."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Return the float dtype of the rows."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice | Tensor, /) -> Tensor: ...


@runtime_checkable
class WritableEmbeddingMatrix(EmbeddingMatrix, Protocol):
    """An embedding matrix whose rows can be assigned."""

    def __setitem__(self, rows: slice | Tensor, values: Tensor, /) -> None: ...


def rows_per_block(dim: int) -> int:
    """Return the number of rows of width `dim` in a block."""
    return max(BLOCK_ELEMENTS // dim, 1)


def iter_row_blocks(rows: int, *, dim: int) -> Iterator[slice]:
    """Yield slices that cover all rows, block by block."""
    step = rows_per_block(dim)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
