"""Tables as the mathematics sees them: rows that are asked for in blocks, wherever they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

BLOCK = 1 << 24
"""Numbers of a table handled at once: bounds the memory of everything that walks over rows."""


@runtime_checkable
class Rows(Protocol):
    """A table, `vocab × dim`: a tensor, or a file that reads the rows that it is asked for."""

    @property
    def shape(self) -> Sequence[int]: ...
    @property
    def dtype(self) -> torch.dtype: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice | Tensor, /) -> Tensor: ...


@runtime_checkable
class WritableRows(Rows, Protocol):
    """A table that takes rows, too."""

    def __setitem__(self, rows: slice | Tensor, values: Tensor, /) -> None: ...


def block_rows(dim: int) -> int:
    """How many rows a block has."""
    return max(BLOCK // dim, 1)


def spans(rows: int, *, dim: int) -> Iterator[slice]:
    """All rows of a table, block by block."""
    step = block_rows(dim)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
