"""Rows of tables that lie in files: read when they are asked for, written when they are given, never kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from itertools import pairwise

import torch
from torch import Tensor

from lep.errors import CheckpointError
from lep.io.safetensors_files import FLOATS, Entry


@dataclass(frozen=True)
class StoredRows:
    """A table in a file, `vocab × dim`: what `lep.core.table_rows` calls rows.

    Not mapped into memory: what was read does not stay, and a file that is cut short, or a disk that is full, is an
    error and no crash.
    """

    entry: Entry

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape

    @property
    def dtype(self) -> torch.dtype:
        return FLOATS[self.entry.dtype]

    def __len__(self) -> int:
        return self.entry.shape[0]

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Rows start … stop, or the rows of these ids, in their order, repeated as they are."""
        with self.entry.shard.open("rb", buffering=0) as file:
            if isinstance(rows, slice):
                start, stop, _ = rows.indices(len(self))
                return self._read(file, [(start, max(stop, start))])
            ids, places = rows.unique(return_inverse=True)
            found = self._read(file, _runs(ids))
            return found if len(ids) == len(rows) and bool((places.diff() == 1).all()) else found[places]

    def __setitem__(self, rows: slice | Tensor, values: Tensor) -> None:
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            runs, blocks = [(start, max(stop, start))], [values]
        else:
            runs, blocks = [(id_, id_ + 1) for id_ in rows.tolist()], values.split(1) if len(values) else ()
        if (places := sum(stop - start for start, stop in runs)) != len(values):
            raise ValueError(f"{len(values)} rows for {places} places")
        with self.entry.shard.open("r+b", buffering=0) as file:
            for (start, _), block in zip(runs, blocks, strict=True):
                file.seek(self.entry.begin + start * self._width)
                left = _bytes(block.to(self.dtype).contiguous())
                while left:
                    left = left[file.write(left) :]

    @property
    def _width(self) -> int:
        return self.entry.shape[1] * self.dtype.itemsize

    def _read(self, file: FileIO, runs: Sequence[tuple[int, int]]) -> Tensor:
        rows = torch.empty(sum(stop - start for start, stop in runs), self.entry.shape[1], dtype=self.dtype)
        left = _bytes(rows)
        for start, stop in runs:
            file.seek(self.entry.begin + start * self._width)
            run, left = left[: (stop - start) * self._width], left[(stop - start) * self._width :]
            while run:
                if not (done := file.readinto(run)):
                    raise CheckpointError(f"{self.entry.shard}: became shorter while it was read; fetch the file again")
                run = run[done:]
        return rows


def _runs(ids: Tensor) -> list[tuple[int, int]]:
    """Ascending ids as start … stop of what lies side by side."""
    breaks = (ids.diff() != 1).nonzero().flatten() + 1
    edges = [0, *breaks.tolist(), len(ids)]
    numbers = ids.tolist()
    return [(numbers[a], numbers[b - 1] + 1) for a, b in pairwise(edges) if b > a]


def _bytes(rows: Tensor) -> memoryview:
    return rows.flatten().view(torch.uint8).numpy().data
