"""Embedding matrices in safetensors files: rows are read and written on access, never cached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from itertools import pairwise

import torch
from torch import Tensor

from lep.errors import CheckpointError
from lep.io.safetensors_files import FLOAT_DTYPES, TensorInfo


@dataclass(frozen=True)
class StoredEmbeddingMatrix:
    """An embedding matrix in a file, `vocab × dim`: a `WritableEmbeddingMatrix`.

    Not memory-mapped: rows do not stay in memory, and a truncated file or a full disk is an error, not a crash.
    """

    info: TensorInfo

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (rows, dim)."""
        return self.info.shape

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the stored rows."""
        return FLOAT_DTYPES[self.info.dtype]

    def __len__(self) -> int:
        return self.info.shape[0]

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Return the rows of a slice, or of these ids in their order, repeated ids included."""
        with self.info.shard.open("rb", buffering=0) as file:
            if isinstance(rows, slice):
                start, stop, _ = rows.indices(len(self))
                return self._read_runs(file, [(start, max(stop, start))])
            ids, positions = rows.unique(return_inverse=True)
            unique_rows = self._read_runs(file, _contiguous_runs(ids))
            is_sorted = len(ids) == len(rows) and bool((positions.diff() == 1).all())
            return unique_rows if is_sorted else unique_rows[positions]

    def __setitem__(self, rows: slice | Tensor, values: Tensor) -> None:
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            runs, blocks = [(start, max(stop, start))], [values]
        else:
            runs, blocks = [(id_, id_ + 1) for id_ in rows.tolist()], values.split(1) if len(values) else ()
        if (selected := sum(stop - start for start, stop in runs)) != len(values):
            raise ValueError(f"{len(values)} rows of values for {selected} selected rows")
        with self.info.shard.open("r+b", buffering=0) as file:
            for (start, _), block in zip(runs, blocks, strict=True):
                file.seek(self.info.begin + start * self._row_bytes)
                remaining = _as_bytes(block.to(self.dtype).contiguous())
                while remaining:
                    remaining = remaining[file.write(remaining) :]

    @property
    def _row_bytes(self) -> int:
        return self.info.shape[1] * self.dtype.itemsize

    def _read_runs(self, file: FileIO, runs: Sequence[tuple[int, int]]) -> Tensor:
        rows = torch.empty(sum(stop - start for start, stop in runs), self.info.shape[1], dtype=self.dtype)
        buffer = _as_bytes(rows)
        for start, stop in runs:
            file.seek(self.info.begin + start * self._row_bytes)
            run, buffer = buffer[: (stop - start) * self._row_bytes], buffer[(stop - start) * self._row_bytes :]
            while run:
                if not (count := file.readinto(run)):
                    raise CheckpointError(f"{self.info.shard}: was truncated while it was read; fetch the file again")
                run = run[count:]
        return rows


def _contiguous_runs(ids: Tensor) -> list[tuple[int, int]]:
    """Return ascending ids as (start, stop) of contiguous runs."""
    breaks = (ids.diff() != 1).nonzero().flatten() + 1
    edges = [0, *breaks.tolist(), len(ids)]
    numbers = ids.tolist()
    return [(numbers[a], numbers[b - 1] + 1) for a, b in pairwise(edges) if b > a]


def _as_bytes(rows: Tensor) -> memoryview:
    return rows.flatten().view(torch.uint8).numpy().data
